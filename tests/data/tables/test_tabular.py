"""Tables from files: how they are split and standardised, and what is refused with which advice."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.data import Tabular
from tests.data.tables.written_tables import NAMES, everything, numbers, parquet, refused, same_rows, text


class TestSplits:
    def test_splits_are_as_large_as_published(self, tmp_path: Path) -> None:
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

    def test_a_limit_takes_rows_of_each_split(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers())
        whole, few = Tabular(path, noise=None).load(), Tabular(path, noise=None, limit=15).load()
        assert [len(split) for split in few.splits.values()] == [15, 15, 15]
        for split in whole.splits:
            rows = {tuple(row) for row in whole.splits[split].values.tolist()}
            assert {tuple(row) for row in few.splits[split].values.tolist()} <= rows


class TestStandardizing:
    def test_moments_are_those_of_training_and_validation_rows(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers(1000))
        plain, scaled = (Tabular(path, standardize=flag).load() for flag in (False, True))
        rows = torch.cat([scaled.train.values, scaled.validation.values]).double()
        assert rows.mean(0).abs().max() < 1e-6
        assert (rows.std(0, correction=0) - 1).abs().max() < 1e-6
        back = scaled.test.values.double() * torch.tensor(scaled.std) + torch.tensor(scaled.mean)
        torch.testing.assert_close(back, plain.test.values.double(), rtol=1e-5, atol=1e-4)
        assert (plain.mean, plain.std, plain.log_scale) == (None, None, 0.0)
        assert "own units" in plain.unit

    def test_moments_lead_back_beyond_an_earlier_standardising(self, tmp_path: Path) -> None:
        original = numbers(300)
        mean, std = original.mean(0), 2 * original.std(0)
        np.savez(tmp_path / "t.npz", rows=(original - mean) / std, mean=mean, std=std)
        dataset = Tabular(str(tmp_path / "t.npz"), noise=None, standardize=True).load()
        assert same_rows(np.round(everything(dataset) * dataset.std + dataset.mean, 3), np.round(original, 3))

    def test_log_scale_is_the_density_of_other_units(self, tmp_path: Path) -> None:
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
    def test_places_that_hold_no_table_are_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        text(tmp_path / "table.csv", numbers())
        refused(r"tables\.csv does not exist; near it there is table\.csv; check", str(tmp_path / "tables.csv"))
        refused("is a directory, not a file", str(tmp_path))
        refused("give either", None)
        monkeypatch.delenv("LIMBECK_DATA", raising=False)
        refused("LIMBECK_DATA names: set it, or give path", file="table.csv")

    def test_columns_of_text_are_named(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text("a,station,c\n" + "".join(f"{n}.5,{'north' if n % 2 else ''},{n}\n" for n in range(40)))
        refused(r"column 'station' is not of numbers \('north' in row 2\).* drop: \[station\]", str(path))
        assert Tabular(str(path), drop=["station"]).load().columns == ("a", "c")
        assert Tabular(str(path), columns=["c"]).load().columns == ("c",)
        path.write_text("a,b\n" + "".join(f"{n}.5,{n}_{n}\n" for n in range(40)))  # which Python takes for a number
        refused(r"column 'b' is not of numbers \('0_0' in row 1\)", str(path))
        path.write_text("1_0,2_0\n" + "".join(f"{n}.5,{n}\n" for n in range(40)))
        assert Tabular(str(path)).load().columns == ("1_0", "2_0")
        other = parquet(tmp_path / "t.parquet", a=numbers()[:, 0], station=["north"] * 200)
        refused(r"column 'station' is not of numbers \(its type is string\)", other)

    def test_unknown_columns_are_named(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers(), ["temperature", "pressure", "wind"])
        refused("no column 'temprature'; did you mean 'temperature'", path, columns=["temprature"])
        refused("no column 'zzz'; there are temperature, pressure, wind", path, drop=["zzz"])
        refused("no column '7'", path, columns=[7])
        refused("leave no column, or name one twice", path, drop=["temperature", "pressure", "wind"])
        refused("leave no column, or name one twice", path, columns=["wind", "wind"])

    @pytest.mark.parametrize("cell", ["", "nan", "inf", "?", " NA "])
    def test_missing_values_are_named_or_dropped(self, tmp_path: Path, cell: str) -> None:
        path = tmp_path / "t.csv"
        lines = [f"{n}.25,{n * n}" for n in range(50)]
        lines[7], lines[9] = f"7.25,{cell}", f"{cell},{cell}"
        path.write_text("\n".join(["a,b", *lines]))
        refused("2 of 50 rows have values .* the first in row 8, column 'b'; .* missing: drop", str(path))
        dataset = Tabular(str(path), missing="drop", noise=None).load()
        assert len(everything(dataset)) == 48
        assert 7.25 not in everything(dataset)[:, 0]

    def test_constant_columns_are_named(self, tmp_path: Path) -> None:
        values = numbers()
        values[:, 1] = 3.0
        path = text(tmp_path / "t.csv", values, NAMES)
        refused(r"column 'b' has one value in all 162 training rows: .* drop: \[b\]", path)
        assert len(Tabular(path, noise=[0.01, 1.0, 0.0]).load().columns) == 3

    def test_more_digits_than_float32_has(self, tmp_path: Path) -> None:
        values = numbers()
        values[:, 2] = 1.6e9 + np.arange(200) + 0.123 * values[:, 2]
        path = text(tmp_path / "t.csv", values, NAMES)
        refused("column 'c' varies by .*, but float32 keeps values of its size in steps of 128", path)
        assert everything(Tabular(path, standardize=True).load())[:, 2].std() == pytest.approx(1.0, abs=0.1)

    def test_too_few_rows_are_refused(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers(9), NAMES)
        refused(r"test rows \(0.1\) cannot be cut off 9 rows", path)
        refused(r"validation rows \(8\) cannot be cut off 8 rows", path, test=1, validation=8)
        assert len(Tabular(path, test=1, validation=1).load().train) == 7

    def test_noise_that_does_not_fit_is_refused(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers(), NAMES)
        refused(r"noise lists 2 amplitudes for 3 columns \(a, b, c\); give one for each", path, noise=[1, 2])
        refused("finite and not negative", path, noise=-1.0)
        refused("finite and not negative", path, noise=[0, 0, math.nan])
        refused("noise is auto, an amplitude or a list", path, noise="some")

    def test_other_options_are_checked(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers(), NAMES)
        refused("limit 0 leaves no rows", path, limit=0)
        refused("missing is raise or drop", path, missing="ignore")
        refused(r"delimiter is a single character, not '\\\\t'", path, delimiter="\\t")
        refused("seed of the data must be a whole number from 0 to 4294967295, not -1", path, seed=-1)
        refused(r"test rows \(nan\) cannot be cut off", path, test=math.nan)
