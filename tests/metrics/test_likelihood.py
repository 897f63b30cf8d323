"""Log densities of rows as a few numbers, against numpy and against codes whose length is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from limbeck.errors import DataError
from limbeck.metrics import bits_per_dimension, summarize_rows


def test_mean_error_and_quantiles_against_numpy() -> None:
    values = torch.randn(5001, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).mul(3).sub(7)
    found = summarize_rows(values, (0.01, 0.001))
    rows = values.numpy()
    assert found.mean == pytest.approx(rows.mean(), rel=1e-12)
    assert found.standard_error == pytest.approx(rows.std(ddof=1) / math.sqrt(5001), rel=1e-12)
    assert found.median == np.median(rows)
    for level in (0.01, 0.001):
        assert found.quantiles[level] == np.quantile(rows, level, method="inverted_cdf")
    assert (found.count, found.not_finite) == (5001, 0)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_are_counted_and_the_worst(broken: float) -> None:
    values = torch.cat([torch.arange(98.0), torch.tensor([broken, broken])])
    found = summarize_rows(values, (0.01, 0.02, 0.03))
    assert found.not_finite == 2
    assert found.mean == 48.5
    assert found.quantiles == {0.01: -math.inf, 0.02: -math.inf, 0.03: 0.0}
    assert found.median == 47.0
    # Of a difference where small is good, they are the largest instead.
    assert summarize_rows(values, (0.02, 0.99), worst=math.inf).quantiles == {0.02: 1.0, 0.99: math.inf}


def test_quantiles_where_level_times_rows_is_rounded_up() -> None:
    rows = torch.arange(100.0)
    levels = tuple(percent / 100 for percent in range(1, 101))
    assert summarize_rows(rows, levels).quantiles == {level: round(100 * level) - 1 for level in levels}
    assert summarize_rows(rows, trim=0.07).trimmed_mean == rows[7:].mean()


def test_one_row_and_no_finite_row() -> None:
    assert summarize_rows(torch.tensor([2.0]), trim=0.001).trimmed_mean == 2.0
    assert summarize_rows(torch.tensor([2.0])).median == 2.0
    assert math.isnan(summarize_rows(torch.tensor([2.0])).standard_error)
    none = summarize_rows(torch.tensor([math.nan, -math.inf]))
    assert math.isnan(none.mean)
    assert math.isnan(none.standard_error)
    assert none.not_finite == 2


@pytest.mark.parametrize("shape", [(0,), (2, 2)])
def test_what_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="one number for each"):
        summarize_rows(torch.zeros(shape))


def test_bits_of_a_uniform_row_and_of_a_sharper_one() -> None:
    # Uniform over [0, 1]^D: every pixel costs its full 8 bits. Uniform over the lower half: one bit less each.
    assert bits_per_dimension(torch.zeros(3), 12).tolist() == [8.0] * 3
    sharper = bits_per_dimension(torch.full((2,), 12 * math.log(2.0), dtype=torch.float64), 12)
    assert sharper.tolist() == pytest.approx([7.0] * 2)
    assert bits_per_dimension(torch.zeros(1), 64, levels=16).item() == 4.0
    assert bits_per_dimension(torch.tensor([-math.log(8.0)], dtype=torch.float64), 1, levels=1).item() == pytest.approx(
        3.0
    )


@pytest.mark.parametrize("worst", [-math.inf, math.inf])
def test_the_trimmed_mean_leaves_out_the_worst_rows(worst: float) -> None:
    values = torch.arange(1000.0, dtype=torch.float64)
    bad = 0 if worst < 0 else 999
    values[bad] = math.nan
    found = summarize_rows(values[torch.randperm(1000)], worst=worst, trim=0.0011)  # two rows
    expected = values[2:] if worst < 0 else values[:-2]
    assert found.trimmed_mean == pytest.approx(expected.mean().item())
    assert summarize_rows(values, worst=worst).trimmed_mean == worst
