"""Tables from files: what is read, how it is split and noised, and what is refused with which advice."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from limbeck.data import BreastCancer, DataSource, DigitPixels, TableDataset, Tabular
from limbeck.data.tables.noise import resolution
from limbeck.errors import DataError

NAMES = ["a", "b", "c"]


def numbers(rows: int = 200, seed: int = 0) -> np.ndarray:
    """Rounded to 0.01, rounded to 5, continuous."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, 3)) * [1.0, 100.0, 1.0]
    values[:, 0] = np.round(values[:, 0], 2)
    values[:, 1] = 5 * np.round(values[:, 1] / 5)
    return values


def text(path: Path, values: np.ndarray, names: list[str] | None = None, separator: str = ",") -> str:
    lines = [separator.join(names)] if names else []
    lines += [separator.join(map(repr, row)) for row in values.tolist()]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def parquet(path: Path, **columns: Any) -> str:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path)
    return str(path)


def everything(dataset: TableDataset) -> np.ndarray:
    return torch.cat([split.values for split in dataset.splits.values()]).double().numpy()


def same_rows(first: np.ndarray, second: np.ndarray) -> bool:
    """In whatever order."""
    return bool(np.array_equal(np.sort(first.astype(np.float32), axis=0), np.sort(second.astype(np.float32), axis=0)))


class TestFormats:
    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    def test_text(self, tmp_path: Path, separator: str) -> None:
        dataset = Tabular(text(tmp_path / "t.csv", numbers(), NAMES, separator), noise=None).load()
        assert dataset.columns == ("a", "b", "c")
        assert dataset.name == "t"
        assert same_rows(everything(dataset), numbers())

    def test_text_without_names(self, tmp_path: Path) -> None:
        dataset = Tabular(text(tmp_path / "t.csv", numbers()), noise=None).load()
        assert dataset.columns == ("0", "1", "2")
        assert same_rows(everything(dataset), numbers())

    def test_names_that_are_numbers(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers(), ["2019", "2020", "2021"])
        assert len(everything(Tabular(path, noise=None).load())) == 201
        dataset = Tabular(path, noise=None, header=True).load()
        assert dataset.columns == ("2019", "2020", "2021")
        assert len(everything(dataset)) == 200

    def test_many_blocks_of_text(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("limbeck.data.tables.text._BLOCK", 7)
        dataset = Tabular(text(tmp_path / "t.csv", numbers(), NAMES), noise=None).load()
        assert same_rows(everything(dataset), numbers())

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_npy(self, tmp_path: Path, dtype: type) -> None:
        np.save(tmp_path / "t.npy", numbers().astype(dtype))
        assert same_rows(everything(Tabular(str(tmp_path / "t.npy"), noise=None).load()), numbers())

    def test_npz_with_splits_keeps_them(self, tmp_path: Path) -> None:
        parts = {"train": numbers(50, 1), "val": numbers(20, 2), "test": numbers(10, 3)}
        np.savez(tmp_path / "t.npz", **parts, columns=np.array(NAMES), mean=np.ones(3), std=np.array([2.0, 3.0, 4.0]))
        dataset = Tabular(str(tmp_path / "t.npz"), noise=None).load()
        for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
            assert torch.equal(dataset.splits[split].values, torch.tensor(parts[name], dtype=torch.float32))
        assert dataset.columns == ("a", "b", "c")
        assert (dataset.mean, dataset.std) == ((1.0, 1.0, 1.0), (2.0, 3.0, 4.0))
        assert dataset.log_scale == pytest.approx(math.log(24))
        assert "3.1781 nats per row lower" in dataset.unit

    @pytest.mark.parametrize("rows", [{"rows": numbers()}, {"train": numbers(50, 1), "test": numbers(10, 3)}])
    def test_npz_with_moments_as_rows(self, tmp_path: Path, rows: dict[str, np.ndarray]) -> None:
        np.savez(tmp_path / "t.npz", **rows, mean=np.ones((1, 3)), std=np.array([[2.0, 3.0, 4.0]]))
        dataset = Tabular(str(tmp_path / "t.npz"), drop=["1"]).load()
        assert (dataset.mean, dataset.std) == ((1.0, 1.0), (2.0, 4.0))

    @pytest.mark.parametrize("suffix", ["npz", "npy"])
    def test_truth_values_are_numbers(self, tmp_path: Path, suffix: str) -> None:
        values = numbers() > 0
        if suffix == "npz":
            np.savez(tmp_path / "t.npz", train=values, test=values[:50])
        else:
            np.save(tmp_path / "t.npy", values)
        dataset = Tabular(str(tmp_path / f"t.{suffix}"), noise=None).load()
        assert set(everything(dataset).flatten()) == {0.0, 1.0}

    def test_npz_without_validation_gets_one(self, tmp_path: Path) -> None:
        train, test = numbers(50, 1), numbers(10, 3)
        np.savez(tmp_path / "t.npz", train=train, test=test)
        dataset = Tabular(str(tmp_path / "t.npz"), noise=None, validation=8).load()
        assert [len(split) for split in dataset.splits.values()] == [42, 8, 10]
        assert torch.equal(dataset.test.values, torch.tensor(test, dtype=torch.float32))
        assert same_rows(torch.cat([dataset.train.values, dataset.validation.values]).numpy(), train)

    def test_npz_with_one_array(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "t.npz", rows=numbers(), note=np.array("measured twice"))
        assert same_rows(everything(Tabular(str(tmp_path / "t.npz"), noise=None).load()), numbers())

    def test_parquet(self, tmp_path: Path) -> None:
        values = numbers()
        path = parquet(tmp_path / "t.parquet", a=values[:, 0], where=["here"] * 200, n=np.arange(200), c=values[:, 2])
        dataset = Tabular(path, drop=["where"], noise=None).load()
        assert dataset.columns == ("a", "n", "c")
        assert same_rows(everything(dataset), np.column_stack([values[:, 0], np.arange(200), values[:, 2]]))

    def test_index_of_pandas_is_no_column_unless_asked_for(self, tmp_path: Path) -> None:
        pandas = pytest.importorskip("pandas")
        table = pandas.DataFrame(numbers(), columns=NAMES).sort_values("a")  # so the index is no range
        table.to_parquet(tmp_path / "t.parquet")
        path = str(tmp_path / "t.parquet")
        assert Tabular(path, noise=None).load().columns == ("a", "b", "c")
        assert Tabular(path, drop=["a"], noise=None).load().columns == ("b", "c")
        assert Tabular(path, columns=["__index_level_0__", "c"]).load().columns == ("__index_level_0__", "c")
        table.set_index("c").to_parquet(tmp_path / "n.parquet")
        assert Tabular(str(tmp_path / "n.parquet"), drop=["c"], noise=None).load().columns == ("a", "b")
        table.to_csv(tmp_path / "t.csv")
        with pytest.raises(DataError, match=r"a column has no name.*; leave it out with drop: \[\"\"\]"):
            Tabular(str(tmp_path / "t.csv")).load()
        assert Tabular(str(tmp_path / "t.csv"), drop=[""]).load().columns == ("a", "b", "c")
        assert Tabular(str(tmp_path / "t.csv"), columns=["", "b"]).load().columns == ("", "b")

    def test_parquet_without_the_library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "t.parquet").touch()
        monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
        with pytest.raises(DataError, match=r"Parquet files needs pyarrow: pip install 'limbeck\[data\]'"):
            Tabular(str(tmp_path / "t.parquet")).load()

    def test_columns_by_name_number_and_order(self, tmp_path: Path) -> None:
        named, plain = text(tmp_path / "n.csv", numbers(), NAMES), text(tmp_path / "p.csv", numbers())
        swapped = Tabular(named, columns=["c", "a"], noise=None).load()
        assert swapped.columns == ("c", "a")
        assert torch.equal(swapped.train.values, Tabular(plain, columns=[2, 0], noise=None).load().train.values)
        assert torch.equal(swapped.train.values.flip(1), Tabular(plain, drop=[1], noise=None).load().train.values)

    def test_file_in_the_directory_of_data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
        (tmp_path / "tables").mkdir()
        text(tmp_path / "tables" / "t.csv", numbers())
        assert Tabular(file="tables/t.csv").load().name == "t"
        other = text(tmp_path / "other.csv", numbers())
        assert Tabular(other, file="tables/nowhere.csv").load().name == "other"  # as a recipe's file, overridden

    def test_recipes_can_name_every_option(self) -> None:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--data", type=DataSource)
        options = {
            "path": "t.csv",
            "columns": ["a", 2],
            "noise": [0.1, 0],
            "missing": "drop",
            "test": 50,
            "header": True,
        }
        for noise in ("auto", 0.5, [0.1, 0], None):
            told = {"class_path": "limbeck.data.Tabular", "init_args": options | {"noise": noise}}
            made = parser.instantiate_classes(parser.parse_string(yaml.safe_dump({"data": told}))).data
            assert isinstance(made, Tabular)
            assert (made.noise, made.columns, made.test) == (noise, ["a", 2], 50)


class TestSplits:
    def test_as_published(self, tmp_path: Path) -> None:
        dataset = Tabular(text(tmp_path / "t.csv", numbers(1005)), noise=None).load()
        assert [len(split) for split in dataset.splits.values()] == [815, 90, 100]

    def test_seed_fixes_them(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers())
        first, again, other = (Tabular(path, seed=seed).load() for seed in (3, 3, 4))
        assert first.fingerprint == again.fingerprint != other.fingerprint

    def test_rows_are_shuffled(self, tmp_path: Path) -> None:
        rows = np.column_stack([np.arange(1000.0), np.arange(1000.0) ** 2])
        dataset = Tabular(text(tmp_path / "t.csv", rows), noise=None).load()
        for split in dataset.splits.values():
            order = split.values[:, 0]
            assert 350 < order.mean() < 650
            assert (order.diff() > 0).float().mean() < 0.7
            assert torch.equal(split.values[:, 1], order**2)

    def test_limit(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers())
        whole, few = Tabular(path, noise=None).load(), Tabular(path, noise=None, limit=15).load()
        assert [len(split) for split in few.splits.values()] == [15, 15, 15]
        for split in whole.splits:
            rows = {tuple(row) for row in whole.splits[split].values.tolist()}
            assert {tuple(row) for row in few.splits[split].values.tolist()} <= rows


class TestNoise:
    def test_fills_each_step_of_rounding(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers(2000))
        plain, noised = (everything(Tabular(path, noise=noise).load()) for noise in (None, "auto"))
        added = noised - plain
        for column, amplitude in enumerate((0.01, 5.0)):
            share = added[:, column] / amplitude
            assert -1e-4 < share.min() < 0.01
            assert 0.99 < share.max() < 1 + 1e-4
            assert share.mean() == pytest.approx(0.5, abs=4 * 0.29 / math.sqrt(2000))
        assert not added[:, 2].any()

    def test_amplitudes_of_ones_own(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers())
        plain = everything(Tabular(path, noise=None).load())
        added = everything(Tabular(path, noise=[0, 0, 2.0]).load()) - plain
        assert not added[:, :2].any()
        assert 1.8 < added[:, 2].max() < 2.001
        assert (everything(Tabular(path, noise=0.5).load()) - plain).min(axis=0).tolist() == pytest.approx(
            [0.0] * 3, abs=0.02
        )

    def test_is_never_in_place(self, tmp_path: Path) -> None:
        path = tmp_path / "t.npz"
        np.savez(path, train=numbers(50, 1), val=numbers(20, 2), test=numbers(10, 3))
        before = path.read_bytes()
        source = Tabular(str(path))
        assert source.load().fingerprint == source.load().fingerprint
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        ("values", "step"),
        [
            (np.array([1.0, 2.0, 4.0]), 1.0),
            (np.array([3, 5, 9]), 2.0),
            (np.array([True, False, True]), 1.0),
            (np.array([0.1, 0.25, 7.0]), 0.15),
            (np.array([-300.0, 100.0, 700.0]), 200.0),
            (np.array([2.0, 2.0]), 0.0),
            (np.linspace(0, 1, 9) ** 3 * math.pi, 0.0),
            (np.tile(np.arange(256) / 255, 4), 1 / 255),
            (np.round(np.random.default_rng(0).normal(size=500), 3).astype(np.float32), 0.001),
            (np.random.default_rng(0).normal(size=500).astype(np.float32), 0.0),
            (np.random.default_rng(0).normal(size=30), 0.0),
        ],
        ids=str,
    )
    def test_steps_that_are_found(self, values: np.ndarray, step: float) -> None:
        assert resolution(values) == pytest.approx(step, rel=1e-6)

    @pytest.mark.skipif("LIMBECK_DATA" not in os.environ, reason="LIMBECK_DATA does not say where data are kept")
    @pytest.mark.parametrize("name", ["power_head", "protein_casp"])
    def test_steps_of_published_tables(self, name: str) -> None:
        """They were noised with known amplitudes; undone, the same ones are found, and in noised data none."""
        with np.load(Path(os.environ["LIMBECK_DATA"], "tabular", f"{name}.npz")) as file:
            amplitudes = file["noise_amplitude"]
            noised = file["train"].astype(np.float64) * file["std"] + file["mean"]
            assert all(resolution(column) == 0.0 for column in file["train"].T)
        raw = np.floor(noised / amplitudes + 1e-3) * amplitudes
        assert [resolution(column) for column in raw.T] == pytest.approx(amplitudes.tolist())


class TestStandardizing:
    def test_by_training_and_validation_rows(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers(1000))
        plain, scaled = (Tabular(path, standardize=flag).load() for flag in (False, True))
        rows = torch.cat([scaled.train.values, scaled.validation.values]).double()
        assert rows.mean(0).abs().max() < 1e-6
        assert (rows.std(0, correction=0) - 1).abs().max() < 1e-6
        back = scaled.test.values.double() * torch.tensor(scaled.std) + torch.tensor(scaled.mean)
        torch.testing.assert_close(back, plain.test.values.double(), rtol=1e-5, atol=1e-4)
        assert (plain.mean, plain.std, plain.log_scale) == (None, None, 0.0)
        assert "own units" in plain.unit

    def test_on_top_of_an_earlier_one(self, tmp_path: Path) -> None:
        original = numbers(300)
        mean, std = original.mean(0), 2 * original.std(0)
        np.savez(tmp_path / "t.npz", rows=(original - mean) / std, mean=mean, std=std)
        dataset = Tabular(str(tmp_path / "t.npz"), noise=None, standardize=True).load()
        assert same_rows(np.round(everything(dataset) * dataset.std + dataset.mean, 3), np.round(original, 3))

    def test_density_in_other_units(self, tmp_path: Path) -> None:
        """log_scale is what a density gains by standardising."""
        path = text(tmp_path / "t.csv", numbers(500))
        values = [Tabular(path, noise=None, standardize=flag).load() for flag in (False, True)]
        fits = []
        for dataset in values:
            rows = dataset.train.values.double()
            law = torch.distributions.MultivariateNormal(rows.mean(0), torch.cov(rows.T))
            fits.append(law.log_prob(dataset.test.values.double()).mean().item())
        assert fits[1] - fits[0] == pytest.approx(values[1].log_scale, abs=1e-3)


class TestRefusals:
    def refused(self, match: str, *arguments: Any, **options: Any) -> None:
        with pytest.raises(DataError, match=match) as caught:
            Tabular(*arguments, **options).load()
        assert "\n" not in str(caught.value)

    def test_places(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        text(tmp_path / "table.csv", numbers())
        self.refused(r"tables\.csv does not exist; near it there is table\.csv; check", str(tmp_path / "tables.csv"))
        self.refused("is a directory, not a file", str(tmp_path))
        self.refused("give either", None)
        monkeypatch.delenv("LIMBECK_DATA", raising=False)
        self.refused("LIMBECK_DATA names: set it, or give path", file="table.csv")

    @pytest.mark.parametrize("name", ["t.xlsx", "t", "t.pickle"])
    def test_unknown_formats(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("1,2\n")
        self.refused(r"tables are read from \.csv, .* and \.parquet; save it as one of these", str(tmp_path / name))

    @pytest.mark.parametrize("damage", ["empty", "half", "noise", "inside"])
    @pytest.mark.parametrize("suffix", ["npz", "npy", "parquet"])
    def test_corrupt_files(self, tmp_path: Path, suffix: str, damage: str) -> None:
        path = tmp_path / f"t.{suffix}"
        if suffix == "parquet":
            parquet(path, a=numbers()[:, 0])
        else:
            (np.savez_compressed if suffix == "npz" else np.save)(path, numbers())
        whole = path.read_bytes()
        broken = {"empty": b"", "half": whole[: len(whole) // 2], "noise": b"\x80\x04 a pickle?",
                  "inside": whole[:100] + bytes(200) + whole[300:]}  # fmt: skip
        path.write_bytes(broken[damage])
        if damage == "inside" and suffix != "npz":
            return  # these formats have no checksums of their numbers
        self.refused(r"cannot be read as a table .* repair it", str(path))

    @pytest.mark.parametrize(("mean", "std"), [(1.0, 0.0), (1.0, -1.0), (1.0, np.inf), (np.nan, 1.0)])
    def test_standardised_by_what_cannot_be(self, tmp_path: Path, mean: float, std: float) -> None:
        np.savez(tmp_path / "t.npz", rows=numbers(), mean=np.full(3, mean), std=np.array([1.0, std, 1.0]))
        self.refused("mean must be finite and std positive", str(tmp_path / "t.npz"))

    @pytest.mark.parametrize(
        ("moments", "match"),
        [
            ({"mean": np.ones(3)}, "has mean but not both of mean and std; save both or neither"),
            ({"std": np.ones(3)}, "has std but not both"),
            ({"mean": np.ones(()), "std": np.ones(3)}, r"mean is float64 of shape \(\), not one number for each of 3"),
            ({"mean": np.ones(3), "std": np.ones((3, 1))}, r"std is float64 of shape \(3, 1\)"),
        ],
    )
    def test_standardised_by_something_else(self, tmp_path: Path, moments: dict[str, Any], match: str) -> None:
        np.savez(tmp_path / "t.npz", train=numbers(), **moments)
        self.refused(match, str(tmp_path / "t.npz"))

    def test_pickles_are_not_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple:
                return (Path.touch, (tmp_path / "ran",))

        objects = np.empty((3, 2), dtype=object)
        objects[:] = Evil()
        np.savez(tmp_path / "t.npz", train=objects)
        self.refused("allow_pickle=False", str(tmp_path / "t.npz"))
        assert not (tmp_path / "ran").exists()

    def test_text_that_is_no_table(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        for content, match in [
            (b"", "is empty"),
            (b"a,b\n", "cannot be cut off 0 rows"),
            (b"a,b\n1,2\n3,4,5\n", "row 2 has 3 cells, but there are 2 columns; repair it"),
            (b"a,b\n1,2\n\xff\xfe,4\n", "UnicodeDecodeError"),
            (b"a,a,b\n1,2,3\n", "more than one column is called 'a'; rename"),
        ]:
            path.write_bytes(content)
            self.refused(match, str(path))

    def test_text_columns(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text("a,station,c\n" + "".join(f"{n}.5,{'north' if n % 2 else ''},{n}\n" for n in range(40)))
        self.refused(r"column 'station' is not of numbers \('north' in row 2\).* drop: \[station\]", str(path))
        assert Tabular(str(path), drop=["station"]).load().columns == ("a", "c")
        assert Tabular(str(path), columns=["c"]).load().columns == ("c",)
        path.write_text("a,b\n" + "".join(f"{n}.5,{n}_{n}\n" for n in range(40)))  # which Python takes for a number
        self.refused(r"column 'b' is not of numbers \('0_0' in row 1\)", str(path))
        path.write_text("1_0,2_0\n" + "".join(f"{n}.5,{n}\n" for n in range(40)))
        assert Tabular(str(path)).load().columns == ("1_0", "2_0")
        other = parquet(tmp_path / "t.parquet", a=numbers()[:, 0], station=["north"] * 200)
        self.refused(r"column 'station' is not of numbers \(its type is string\)", other)

    def test_unknown_columns(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers(), ["temperature", "pressure", "wind"])
        self.refused("no column 'temprature'; did you mean 'temperature'", path, columns=["temprature"])
        self.refused("no column 'zzz'; there are temperature, pressure, wind", path, drop=["zzz"])
        self.refused("no column '7'", path, columns=[7])
        self.refused("leave no column, or name one twice", path, drop=["temperature", "pressure", "wind"])
        self.refused("leave no column, or name one twice", path, columns=["wind", "wind"])

    @pytest.mark.parametrize("cell", ["", "nan", "inf", "?", " NA "])
    def test_missing_values(self, tmp_path: Path, cell: str) -> None:
        path = tmp_path / "t.csv"
        lines = [f"{n}.25,{n * n}" for n in range(50)]
        lines[7], lines[9] = f"7.25,{cell}", f"{cell},{cell}"
        path.write_text("\n".join(["a,b", *lines]))
        self.refused("2 of 50 rows have values .* the first in row 8, column 'b'; .* missing: drop", str(path))
        dataset = Tabular(str(path), missing="drop", noise=None).load()
        assert len(everything(dataset)) == 48
        assert 7.25 not in everything(dataset)[:, 0]

    def test_missing_in_other_formats(self, tmp_path: Path) -> None:
        values = numbers()
        values[3, 1] = np.nan
        np.savez(tmp_path / "t.npz", train=numbers(), val=numbers(), test=values)
        self.refused("test rows: 1 of 200 rows have values .* row 4, column '1'", str(tmp_path / "t.npz"))
        path = parquet(tmp_path / "t.parquet", n=[None if n == 5 else n for n in range(200)])
        self.refused("1 of 200 rows .* the first in row 6, column 'n'", path)
        assert len(everything(Tabular(path, missing="drop").load())) == 199
        values[:, 1] = np.nan
        np.save(tmp_path / "t.npy", values)
        self.refused("200 of 200 rows", str(tmp_path / "t.npy"), missing="drop")

    def test_constant_columns(self, tmp_path: Path) -> None:
        values = numbers()
        values[:, 1] = 3.0
        path = text(tmp_path / "t.csv", values, NAMES)
        self.refused(r"column 'b' has one value in all 162 training rows: .* drop: \[b\]", path)
        assert len(Tabular(path, noise=[0.01, 1.0, 0.0]).load().columns) == 3

    def test_more_digits_than_float32_has(self, tmp_path: Path) -> None:
        values = numbers()
        values[:, 2] = 1.6e9 + np.arange(200) + 0.123 * values[:, 2]
        path = text(tmp_path / "t.csv", values, NAMES)
        self.refused("column 'c' varies by .*, but float32 keeps values of its size in steps of 128", path)
        assert everything(Tabular(path, standardize=True).load())[:, 2].std() == pytest.approx(1.0, abs=0.1)

    def test_too_few_rows(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers(9), NAMES)
        self.refused(r"test rows \(0.1\) cannot be cut off 9 rows", path)
        self.refused(r"validation rows \(8\) cannot be cut off 8 rows", path, test=1, validation=8)
        assert len(Tabular(path, test=1, validation=1).load().train) == 7

    def test_splits_that_differ(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "t.npz", train=numbers(), test=numbers()[:, :2])
        self.refused("differ in their number of columns: train has 3, test has 2", str(tmp_path / "t.npz"))
        np.savez(tmp_path / "t.npz", train=numbers(), test=numbers()[:, 0])
        self.refused(r"test is float64 of shape \(200,\), not numbers in rows and columns", str(tmp_path / "t.npz"))
        np.savez(tmp_path / "t.npz", train=np.array([["a"]]))
        self.refused("train is <U1 of shape", str(tmp_path / "t.npz"))
        np.savez(tmp_path / "t.npz", x=numbers(), y=numbers())
        self.refused("holds x, y; it must hold train", str(tmp_path / "t.npz"))

    def test_noise(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers(), NAMES)
        self.refused(r"noise lists 2 amplitudes for 3 columns \(a, b, c\); give one for each", path, noise=[1, 2])
        self.refused("finite and not negative", path, noise=-1.0)
        self.refused("finite and not negative", path, noise=[0, 0, math.nan])
        self.refused("noise is auto, an amplitude or a list", path, noise="some")

    def test_other_options(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers(), NAMES)
        self.refused("limit 0 leaves no rows", path, limit=0)
        self.refused("missing is raise or drop", path, missing="ignore")


class TestEmbedded:
    def test_breast_cancer(self) -> None:
        dataset, plain = BreastCancer().load(), BreastCancer(noise=None).load()
        assert len(dataset.columns) == 30
        assert [len(split) for split in dataset.splits.values()] == [411, 45, 113]
        added = everything(dataset) - everything(plain)
        # Each column has its own step, from 0.0000001 of a fractal dimension to 0.1 of an area.
        for column, step in (("mean radius", 0.001), ("mean area", 0.1), ("mean symmetry", 1e-4)):
            noise = added[:, dataset.columns.index(column)]
            assert noise.min() > -0.01 * step
            assert 0.95 * step < noise.max() < 1.01 * step
        assert (everything(dataset).std(axis=0) > 0).all()

    def test_breast_cancer_standardized(self) -> None:
        dataset = BreastCancer(standardize=True).load()
        assert dataset.train.values.std(0).mean().item() == pytest.approx(1.0, abs=0.1)
        assert len(dataset.std) == 30

    def test_digit_pixels(self) -> None:
        dataset = DigitPixels().load()
        values = everything(dataset)
        assert values.shape == (1797, 64)
        assert values.min() >= 0.0
        assert values.max() < 17.0
        assert np.array_equal(np.sort(np.floor(values).sum(0)), np.sort(everything_of_digits().sum(0)))
        assert len(DigitPixels(noise=None).load().columns) == 61
        few = DigitPixels(noise=None, seed=3, test=0.5, validation=0.5).load()  # more pixels are 0 in all training rows
        assert len(few.columns) < 61
        assert (few.train.values.amax(0) > 0).all()

    def test_seeds(self) -> None:
        first, again, other = (BreastCancer(seed=seed).load().fingerprint for seed in (0, 0, 1))
        assert first == again != other


def everything_of_digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    return load_digits().data
