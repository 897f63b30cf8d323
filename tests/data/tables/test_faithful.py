"""Old Faithful's eruptions, as R has them."""

import csv
import os
from pathlib import Path

import pytest
import torch

from limbeck.data import Faithful
from limbeck.data.tables.faithful import table
from limbeck.errors import DataError


def test_moments_are_the_known_ones() -> None:
    rows = table().double()
    assert rows.shape == (272, 2)
    # mean() and sd() of R's table; R divides by 271.
    assert rows.mean(0).tolist() == pytest.approx([3.487783, 70.897059], abs=1e-6)
    assert rows.std(0).tolist() == pytest.approx([1.141371, 13.594974], abs=1e-6)
    assert rows.min(0).values.tolist() == pytest.approx([1.6, 43.0])
    assert rows.max(0).values.tolist() == pytest.approx([5.1, 96.0])


@pytest.mark.skipif("LIMBECK_DATA" not in os.environ, reason="LIMBECK_DATA does not say where data are kept")
def test_rows_are_those_of_the_published_table() -> None:
    with Path(os.environ["LIMBECK_DATA"], "faithful.csv").open() as file:
        rows = [(float(row["eruptions"]), float(row["waiting"])) for row in csv.DictReader(file)]
    assert torch.equal(table(), torch.tensor(rows))


def test_columns_are_standardised() -> None:
    dataset = Faithful().load()
    values = dataset.train.values.double()
    assert values.mean(0).abs().max() < 1e-3
    assert (values.std(0, correction=0) - 1).abs().max() < 1e-3
    assert torch.allclose(values[0] * torch.tensor([1.1393, 13.570]) + torch.tensor([3.4878, 70.897]),
                          torch.tensor([3.6, 79.0], dtype=torch.float64), atol=1e-5)  # fmt: skip


def test_without_held_out_rows_all_splits_are_everything() -> None:
    dataset = Faithful().load()
    assert len(dataset.train) == 272
    assert dataset.train is dataset.validation is dataset.test


def test_held_out_rows_are_disjoint_and_together_all() -> None:
    dataset = Faithful(test=68, validation=0.25).load()
    parts = [dataset.train.values, dataset.validation.values, dataset.test.values]
    assert [len(part) for part in parts] == [153, 51, 68]
    everything = sorted(map(tuple, Faithful().load().train.values.tolist()))
    assert sorted(map(tuple, torch.cat(parts).tolist())) == everything
    assert Faithful(test=68, seed=1).load().fingerprint != Faithful(test=68).load().fingerprint


def test_a_split_cannot_take_everything() -> None:
    with pytest.raises(DataError, match="cannot cut 272 off 272 rows"):
        Faithful(test=272).load()
