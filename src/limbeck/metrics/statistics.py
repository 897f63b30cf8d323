"""Several seeds as one statement: mean, spread and an interval; and how much of a gap a student closed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.errors import DataError

__all__ = ["Summary", "gap_closed", "summarize"]


@dataclass(frozen=True)
class Summary:
    """Mean and uncertainty of one measure over seeds, in the unit of the values.

    Attributes:
        mean: arithmetic mean.
        spread: sample standard deviation (divisor count - 1); NaN for a single value.
        low: lower end of the 95 % Student-t interval of the mean; NaN for a single value.
        high: upper end of that interval.
        count: number of values.
    """

    mean: float
    spread: float
    low: float
    high: float
    count: int


def summarize(values: Sequence[float]) -> Summary:
    """Mean, standard deviation and 95 % confidence interval of independent runs.

    The interval is Student's t with count - 1 degrees of freedom: right for few seeds, where +-1.96 standard errors
    would be far too narrow. One value has a mean but neither spread nor interval. A non-finite value makes all NaN.

    Args:
        values: one number per seed.

    Raises:
        DataError: there are no values.

    >>> summary = summarize([1.0, 2.0, 3.0])
    >>> summary.mean, summary.spread, round(summary.low, 3), round(summary.high, 3)
    (2.0, 1.0, -0.484, 4.484)
    >>> summarize([1.5])
    Summary(mean=1.5, spread=nan, low=nan, high=nan, count=1)
    """
    count = len(values)
    if count == 0:
        raise DataError("no values to summarize: every seed of this method failed or lacks the measure.")
    if not all(math.isfinite(value) for value in values):
        return Summary(math.nan, math.nan, math.nan, math.nan, count)
    mean = math.fsum(values) / count
    if count == 1:
        return Summary(mean, math.nan, math.nan, math.nan, count)
    from scipy.stats import t  # scipy.stats takes a second to import

    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(t.ppf(0.975, count - 1)) * spread / math.sqrt(count)
    return Summary(mean, spread, mean - half, mean + half, count)


def gap_closed(student: float, teacher: float, scratch: float) -> float:
    """Share of the distance between training from scratch and the teacher that distillation recovered.

    Args:
        student: measure of the distilled student.
        teacher: the same measure of the teacher.
        scratch: the same measure of the student's architecture trained without a teacher.

    Returns:
        (scratch - student) / (scratch - teacher): 1 means as good as the teacher, 0 no better than scratch, below 0
        worse than scratch; the same for measures where higher is better. NaN if there is no gap to close.

    >>> gap_closed(student=7.0, teacher=5.0, scratch=10.0)
    0.6
    >>> gap_closed(student=7.0, teacher=5.0, scratch=5.0)
    nan
    """
    gap = scratch - teacher
    return (scratch - student) / gap if gap != 0 else math.nan
