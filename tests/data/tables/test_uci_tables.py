"""The published archive's layouts, each written here in small, and what is left to do with them."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.data import BSDS300, Gas, Hepmass, MiniBooNE, Power, TableDataset
from limbeck.errors import DataError

ROWS = 500


def saved(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def texted(path: Path, names: list[str], values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([",".join(names), *(",".join(map(repr, row)) for row in values.tolist())]) + "\n")


def parts(dataset: TableDataset) -> list[np.ndarray]:
    """Train, validation and test in the units of the file."""
    mean, std = (0.0, 1.0) if dataset.mean is None else (np.array(dataset.mean), np.array(dataset.std))
    return [split.values.double().numpy() * std + mean for split in dataset.splits.values()]


def check_moments(dataset: TableDataset) -> None:
    rows = torch.cat([dataset.train.values, dataset.validation.values]).double()
    assert rows.mean(0).abs().max() < 1e-5
    assert (rows.std(0) - 1).abs().max() < 2e-3


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


class TestPower:
    def test_as_published(self, tmp_path: Path, random: np.random.Generator) -> None:
        values = np.column_stack([
            np.arange(ROWS) / 1000, random.normal(size=ROWS), 230 + np.round(random.normal(size=ROWS), 2),
            random.normal(size=ROWS), random.integers(0, 40, (ROWS, 3)), random.normal(size=ROWS),
        ])  # fmt: skip
        saved(tmp_path / "power/data.npy", values)
        dataset = Power(str(tmp_path)).load()
        assert [len(split) for split in dataset.splits.values()] == [405, 45, 50]
        assert dataset.columns[0] == "active_power"
        check_moments(dataset)
        expected = values.copy()
        np.random.RandomState(42).shuffle(expected)
        added = np.concatenate(parts(dataset)) - expected[:, [0, 2, 4, 5, 6, 7]]
        for column, amplitude in enumerate((0.001, 0.01, 1.0, 1.0, 1.0)):
            share = added[:, column] / amplitude
            assert -0.02 < share.min() < 0.02
            assert 0.98 < share.max() < 1.02
        assert np.abs(added[:, 5]).max() < 1e-5
        # The generator that shuffled goes on: first the voltage's noise, then that of power, then the meters'.
        follow = np.random.RandomState(42)
        follow.shuffle(values.copy())
        drawn = [follow.rand(ROWS, count) for count in (1, 1, 3)]
        assert np.abs(added[:, 0] / 0.001 - drawn[1][:, 0]).max() < 0.02
        assert np.abs(added[:, 2:5] - drawn[2]).max() < 1e-4

    def test_other_files(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"power/data\.npy does not exist"):
            Power(str(tmp_path)).load()
        saved(tmp_path / "power/data.npy", np.random.rand(50, 6))
        with pytest.raises(DataError, match="has 6 columns, in the archive at least 8"):
            Power(str(tmp_path)).load()

    def test_place_of_the_data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
        saved(tmp_path / "power/data.npy", np.random.rand(50, 8))
        assert len(Power(limit=3).load().train) == 3
        with pytest.raises(DataError, match="limit 0 leaves no rows"):
            Power(limit=0).load()


GASES = ("Time", "Meth", "Eth", "a", "b", "c", "d")


class TestGas:
    def values(self, random: np.random.Generator) -> np.ndarray:
        """``a`` and ``b`` follow ``c``; ``d`` does not."""
        free = random.normal(size=(ROWS, 5))
        close = [free[:, 3] + 0.05 * random.normal(size=ROWS) for _ in range(2)]
        return np.column_stack([free[:, :3], *close, 3 * free[:, 3] + 7, free[:, 4]])

    @pytest.mark.parametrize("kind", ["csv", "parquet"])
    def test_as_published(self, tmp_path: Path, random: np.random.Generator, kind: str) -> None:
        values = self.values(random)
        place = tmp_path / "gas" / f"ethylene_CO.{kind}"
        if kind == "csv":
            texted(place, list(GASES), values)
        else:
            arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
            place.parent.mkdir()
            parquet.write_table(arrow.table(dict(zip(GASES, values.T))), place)
        dataset = Gas(str(tmp_path)).load()
        assert dataset.columns == ("c", "d")
        np.testing.assert_allclose(np.concatenate(parts(dataset)), values[:, 5:], atol=1e-5)  # in the file's order
        assert [len(split) for split in dataset.splits.values()] == [405, 45, 50]
        assert dataset.std == pytest.approx(values[:, 5:].std(axis=0, ddof=1))

    def test_pickle_is_not_run(self, tmp_path: Path) -> None:
        (tmp_path / "gas").mkdir()
        (tmp_path / "gas/ethylene_CO.pickle").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
        with pytest.raises(DataError, match=r"pickle, which runs code .* python -c .*read_pickle\('.*to_parquet\('"):
            Gas(str(tmp_path)).load()

    def test_advice_on_the_pickle_works(self, tmp_path: Path, random: np.random.Generator) -> None:
        pandas = pytest.importorskip("pandas")
        (tmp_path / "gas").mkdir()
        place = tmp_path / "gas/ethylene_CO.pickle"
        pandas.DataFrame(self.values(random), columns=list(GASES)).to_pickle(place)
        with pytest.raises(DataError) as caught:
            Gas(str(tmp_path)).load()
        exec(str(caught.value).partition('python -c "')[2].rstrip('"'))
        assert Gas(str(tmp_path)).load().columns == ("c", "d")


class TestHepmass:
    def files(self, root: Path, random: np.random.Generator, *, surplus: str = "name") -> tuple[np.ndarray, np.ndarray]:
        """Of columns 2 and 4 the smallest value is frequent, of column 3 the largest."""
        tables = []
        for rows in (ROWS, 200):
            values = random.normal(size=(rows, 5))
            values[:, 0] = np.arange(rows) % 2
            values[:, 2] = random.integers(0, 3, rows)
            values[:, 3] = np.minimum(values[:, 3], np.sort(values[:, 3])[-30])
            values[:, 4] = np.maximum(values[:, 4], np.sort(values[:, 4])[30])
            tables.append(values)
        names = ["# label", "f0", "f1", "f2", "f3"]
        texted(root / "hepmass/1000_train.csv", names, tables[0])
        test = tables[1]
        if surplus in ("both", "cell"):
            test = np.column_stack([test, random.normal(size=len(test))])
        texted(root / "hepmass/1000_test.csv", names + (["mass"] if surplus in ("name", "both") else []), test)
        return tables[0], tables[1]

    @pytest.mark.parametrize("surplus", ["name", "cell", "both", "none"])
    def test_as_published(self, tmp_path: Path, random: np.random.Generator, surplus: str) -> None:
        train, test = self.files(tmp_path, random, surplus=surplus)
        dataset = Hepmass(str(tmp_path)).load()
        assert dataset.columns == ("1", "3")
        signal = train[1::2][:, [1, 3]]
        found = parts(dataset)
        np.testing.assert_allclose(np.concatenate(found[:2]), signal, atol=1e-5)
        np.testing.assert_allclose(found[2], test[1::2][:, [1, 3]], atol=1e-5)
        assert len(found[1]) == 25
        assert dataset.mean == pytest.approx(signal.mean(axis=0))
        assert dataset.std == pytest.approx(signal.std(axis=0, ddof=1))

    def test_other_files(self, tmp_path: Path) -> None:
        texted(tmp_path / "hepmass/1000_train.csv", ["label", "f0"], np.column_stack([np.zeros(9), np.arange(9.0)]))
        with pytest.raises(DataError, match="no row with label 1"):
            Hepmass(str(tmp_path)).load()


class TestMiniBooNE:
    def test_as_published(self, tmp_path: Path, random: np.random.Generator) -> None:
        values = random.normal(size=(ROWS, 4)) * [1, 10, 100, 1000]
        saved(tmp_path / "miniboone/data.npy", values)
        dataset = MiniBooNE(str(tmp_path)).load()
        found = parts(dataset)
        assert [len(part) for part in found] == [405, 45, 50]
        np.testing.assert_allclose(np.concatenate(found), values, rtol=1e-4, atol=1e-4)
        check_moments(dataset)
        assert dataset.std == pytest.approx(values[:450].std(axis=0))


class TestBSDS300:
    def written(self, root: Path, monkeypatch: pytest.MonkeyPatch, random: np.random.Generator) -> dict:
        """With h5py, or a stand-in for what of it is used."""
        splits = {name: random.normal(size=(n, 63)) for name, n in (("train", 90), ("validation", 20), ("test", 30))}
        place = root / "BSDS300/BSDS300.hdf5"
        place.parent.mkdir()
        try:
            import h5py
        except ImportError:
            place.touch()

            class File(dict):
                def __init__(self, path: Path, mode: str) -> None:
                    assert (path, mode) == (place, "r")
                    super().__init__(splits)

                def __enter__(self) -> File:
                    return self

                def __exit__(self, *_: object) -> None:
                    pass

            monkeypatch.setitem(sys.modules, "h5py", types.SimpleNamespace(File=File))
        else:
            with h5py.File(place, "w") as file:
                for name, values in splits.items():
                    file[name] = values
        return splits

    def test_as_published(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random: np.random.Generator) -> None:
        splits = self.written(tmp_path, monkeypatch, random)
        dataset = BSDS300(str(tmp_path)).load()
        for name, values in splits.items():
            assert torch.equal(dataset.splits[name].values, torch.tensor(values, dtype=torch.float32))
        assert dataset.std is None
        splits.pop("test")
        if not hasattr(sys.modules["h5py"], "__version__"):
            with pytest.raises(DataError, match=r"not the archive's file \(KeyError: 'test'\)"):
                BSDS300(str(tmp_path)).load()

    def test_without_the_library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "BSDS300").mkdir()
        (tmp_path / "BSDS300/BSDS300.hdf5").touch()
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(DataError, match="BSDS300 needs h5py: pip install h5py"):
            BSDS300(str(tmp_path)).load()
