"""Summaries over seeds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from limbeck.errors import DataError
from limbeck.metrics import gap_closed, summarize

FINITE = st.floats(-1e6, 1e6)


@given(st.lists(FINITE, min_size=2, max_size=20))
def test_against_scipy(values: list[float]) -> None:
    summary = summarize(values)
    assert summary.count == len(values)
    assert summary.mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    assert summary.spread == pytest.approx(np.std(values, ddof=1), rel=1e-6, abs=1e-6)
    assert summary.low <= summary.mean <= summary.high
    if np.std(values) > 1e-3:
        interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert (summary.low, summary.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-6)


def test_interval_covers_the_truth_in_95_of_100_cases() -> None:
    rows = np.random.default_rng(0).normal(3.0, 2.0, size=(4000, 3))
    inside = [summary.low < 3.0 < summary.high for summary in map(summarize, rows.tolist())]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_single_value_has_no_spread() -> None:
    summary = summarize([2.5])
    assert (summary.mean, summary.count) == (2.5, 1)
    assert all(math.isnan(value) for value in (summary.spread, summary.low, summary.high))


def test_no_values_and_non_finite_values() -> None:
    with pytest.raises(DataError, match="no values"):
        summarize([])
    assert math.isnan(summarize([1.0, math.nan]).mean)
    assert math.isnan(summarize([1.0, math.inf]).mean)


@given(student=FINITE, teacher=FINITE, scratch=FINITE)
def test_gap_closed(student: float, teacher: float, scratch: float) -> None:
    if abs(scratch - teacher) < 1e-3:
        return
    assert gap_closed(teacher, teacher, scratch) == 1
    assert gap_closed(scratch, teacher, scratch) == 0
    mirrored = gap_closed(-student, -teacher, -scratch)  # higher is better
    assert gap_closed(student, teacher, scratch) == pytest.approx(mirrored)


def test_gap_closed_without_a_gap() -> None:
    assert math.isnan(gap_closed(1.0, 2.0, 2.0))
    assert gap_closed(12.0, 5.0, 10.0) == pytest.approx(-0.4)
