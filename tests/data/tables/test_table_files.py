"""Files of tables: csv, npy, npz and Parquet, and which files are no tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from limbeck.data import DataSource, Tabular
from limbeck.errors import DataError
from tests.data.tables.written_tables import NAMES, everything, numbers, parquet, refused, same_rows, text


class TestFormats:
    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    def test_text_is_read_with_any_separator(self, tmp_path: Path, separator: str) -> None:
        dataset = Tabular(text(tmp_path / "t.csv", numbers(), NAMES, separator), noise=None).load()
        assert dataset.columns == ("a", "b", "c")
        assert dataset.name == "t"
        assert same_rows(everything(dataset), numbers())

    def test_text_without_names_numbers_its_columns(self, tmp_path: Path) -> None:
        dataset = Tabular(text(tmp_path / "t.csv", numbers()), noise=None).load()
        assert dataset.columns == ("0", "1", "2")
        assert same_rows(everything(dataset), numbers())

    def test_names_that_are_numbers(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers(), ["2019", "2020", "2021"])
        assert len(everything(Tabular(path, noise=None).load())) == 201
        dataset = Tabular(path, noise=None, header=True).load()
        assert dataset.columns == ("2019", "2020", "2021")
        assert len(everything(dataset)) == 200

    def test_many_blocks_of_text_are_one_table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("limbeck.data.tables.text._BLOCK", 7)
        dataset = Tabular(text(tmp_path / "t.csv", numbers(), NAMES), noise=None).load()
        assert same_rows(everything(dataset), numbers())

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_npy_files_are_read(self, tmp_path: Path, dtype: type) -> None:
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

    def test_npz_files_of_one_array_are_read(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "t.npz", rows=numbers(), note=np.array("measured twice"))
        assert same_rows(everything(Tabular(str(tmp_path / "t.npz"), noise=None).load()), numbers())

    def test_columns_of_parquet_files_are_read(self, tmp_path: Path) -> None:
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

    def test_files_are_found_in_the_directory_of_data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


class TestRefusals:
    @pytest.mark.parametrize("name", ["t.xlsx", "t", "t.pickle"])
    def test_unknown_formats_are_refused(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("1,2\n")
        refused(r"tables are read from \.csv, .* and \.parquet; save it as one of these", str(tmp_path / name))

    @pytest.mark.parametrize("damage", ["empty", "half", "noise", "inside"])
    @pytest.mark.parametrize("suffix", ["npz", "npy", "parquet"])
    def test_corrupt_files_are_named(self, tmp_path: Path, suffix: str, damage: str) -> None:
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
        refused(r"cannot be read as a table .* repair it", str(path))

    @pytest.mark.parametrize(("mean", "std"), [(1.0, 0.0), (1.0, -1.0), (1.0, np.inf), (np.nan, 1.0)])
    def test_moments_that_cannot_be_are_refused(self, tmp_path: Path, mean: float, std: float) -> None:
        np.savez(tmp_path / "t.npz", rows=numbers(), mean=np.full(3, mean), std=np.array([1.0, std, 1.0]))
        refused("mean must be finite and std positive", str(tmp_path / "t.npz"))

    @pytest.mark.parametrize(
        ("moments", "match"),
        [
            ({"mean": np.ones(3)}, "has mean but not both of mean and std; save both or neither"),
            ({"std": np.ones(3)}, "has std but not both"),
            ({"mean": np.ones(()), "std": np.ones(3)}, r"mean is float64 of shape \(\), not one number for each of 3"),
            ({"mean": np.ones(3), "std": np.ones((3, 1))}, r"std is float64 of shape \(3, 1\)"),
        ],
    )
    def test_moments_that_do_not_fit_are_refused(self, tmp_path: Path, moments: dict[str, Any], match: str) -> None:
        np.savez(tmp_path / "t.npz", train=numbers(), **moments)
        refused(match, str(tmp_path / "t.npz"))

    def test_pickles_are_not_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple:
                return (Path.touch, (tmp_path / "ran",))

        objects = np.empty((3, 2), dtype=object)
        objects[:] = Evil()
        np.savez(tmp_path / "t.npz", train=objects)
        refused("allow_pickle=False", str(tmp_path / "t.npz"))
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        ("content", "match"),
        [
            (b"", "is empty"),
            (b"a,b\n", "cannot be cut off 0 rows"),
            (b"a,b\n1,2\n3,4,5\n", "row 2 has 3 cells, but there are 2 columns; repair it"),
            (b"a,b\n1,2\n\xff\xfe,4\n", "UnicodeDecodeError"),
            (b"a,a,b\n1,2,3\n", "more than one column is called 'a'; rename"),
        ],
    )
    def test_text_that_is_no_table_is_refused(self, tmp_path: Path, content: bytes, match: str) -> None:
        path = tmp_path / "t.csv"
        path.write_bytes(content)
        refused(match, str(path))

    def test_missing_values_are_found_in_every_format(self, tmp_path: Path) -> None:
        values = numbers()
        values[3, 1] = np.nan
        np.savez(tmp_path / "t.npz", train=numbers(), val=numbers(), test=values)
        refused("test rows: 1 of 200 rows have values .* row 4, column '1'", str(tmp_path / "t.npz"))
        path = parquet(tmp_path / "t.parquet", n=[None if n == 5 else n for n in range(200)])
        refused("1 of 200 rows .* the first in row 6, column 'n'", path)
        assert len(everything(Tabular(path, missing="drop").load())) == 199
        values[:, 1] = np.nan
        np.save(tmp_path / "t.npy", values)
        refused("200 of 200 rows", str(tmp_path / "t.npy"), missing="drop")

    @pytest.mark.parametrize(
        ("arrays", "match"),
        [
            (
                {"train": numbers(), "test": numbers()[:, :2]},
                "differ in their number of columns: train has 3, test has 2",
            ),
            (
                {"train": numbers(), "test": numbers()[:, 0]},
                r"test is float64 of shape \(200,\), not numbers in rows and columns",
            ),
            ({"train": np.array([["a"]])}, "train is <U1 of shape"),
            ({"x": numbers(), "y": numbers()}, "holds x, y; it must hold train"),
        ],
        ids=["columns", "dimensions", "text", "names"],
    )
    def test_arrays_that_are_no_splits_are_refused(self, tmp_path: Path, arrays: dict[str, Any], match: str) -> None:
        np.savez(tmp_path / "t.npz", **arrays)
        refused(match, str(tmp_path / "t.npz"))
