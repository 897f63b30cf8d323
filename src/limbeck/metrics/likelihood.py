"""Log densities of rows as a few numbers: the mean, its standard error, and the tails that a mean hides."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.errors import DataError

__all__ = ["RowSummary", "bits_per_dimension", "summarize_rows"]


@dataclass(frozen=True)
class RowSummary:
    """Statistics of one number per row, in the unit of the numbers.

    Attributes:
        mean: over the finite rows; NaN if there are none.
        standard_error: of that mean over rows: their sample standard deviation over the root of their number; NaN for
            fewer than two.
        trimmed_mean: over all rows but a share of the worst; infinite if more rows than these are not finite.
        median: over all rows, those that are not finite being the worst.
        quantiles: level to quantile, likewise.
        not_finite: rows that are NaN or infinite: densities that were 0 or could not be computed.
        count: rows altogether.
    """

    mean: float
    standard_error: float
    trimmed_mean: float
    median: float
    quantiles: dict[float, float]
    not_finite: int
    count: int


def summarize_rows(
    values: Tensor, levels: tuple[float, ...] = (), *, worst: float = -math.inf, trim: float = 0.0
) -> RowSummary:
    """Mean, standard error, median and quantiles of one number per row.

    A single row of density 0 makes the mean of all log densities minus infinity, which says nothing of the others; so
    such rows are counted beside the mean of the rest, and not dropped from median and quantiles, where they are the
    worst. A quantile is a value that occurs: the smallest that at least that share of the rows does not exceed.

    Args:
        values: shape (rows,).
        levels: of the quantiles, each between 0 and 1.
        worst: what a row that is not finite counts as in the quantiles: by default less than any other.
        trim: share of the rows, those nearest to ``worst``, that the trimmed mean leaves out, rounded up. A flow can
            give one row of thousands a log density of -2,000, and then the mean is about that row.

    Raises:
        DataError: there are no rows.

    >>> found = summarize_rows(torch.tensor([1.0, 2.0, 3.0, float("nan")]), (0.25, 0.5))
    >>> found.mean, found.not_finite, found.quantiles
    (2.0, 1, {0.25: -inf, 0.5: 1.0})
    >>> summarize_rows(torch.tensor([1.0, 3.0, -2000.0]), trim=0.001).trimmed_mean
    2.0
    """
    if values.ndim != 1 or not len(values):
        raise DataError(f"expected one number for each of at least one row, not shape {tuple(values.shape)}")
    values = values.detach().double()
    finite = values.isfinite()
    kept = values[finite]
    deviation = float(kept.std()) if len(kept) > 1 else math.nan
    ordered = torch.where(finite, values, worst).sort().values

    # Less a little: 0.07 * 100 is above 7. One row is left, of which there may be no more.
    dropped = min(math.ceil(trim * len(ordered) - 1e-9), len(ordered) - 1)
    trusted = ordered[: len(ordered) - dropped] if worst > 0 else ordered[dropped:]

    def quantile(level: float) -> float:
        return float(ordered[max(0, math.ceil(level * len(ordered) - 1e-9) - 1)])

    return RowSummary(
        mean=float(kept.mean()),
        standard_error=deviation / math.sqrt(max(1, len(kept))),
        trimmed_mean=float(trusted.mean()),
        median=quantile(0.5),
        quantiles={level: quantile(level) for level in levels},
        not_finite=len(values) - len(kept),
        count=len(values),
    )


def bits_per_dimension(log_density: Tensor, dimensions: int, levels: int = 256) -> Tensor:
    r"""Bits per dimension that a discrete row costs under a density of its dequantised form.

    With noise that fills the bins of width 1 / levels on [0, 1], the density is a bound of the probability of the bin:
    :math:`-\log_2 P(x) / D \le -\log_2 p(y) / D + \log_2 \text{levels}`.

    Args:
        log_density: of rows with elements in [0, 1], in nats, shape (rows,).
        dimensions: D, the elements of a row.
        levels: number of values that an element could take before dequantisation; 1 for a row that never was
            discrete, or whose density is already that of the bins.

    Returns:
        Shape (rows,).

    >>> bits_per_dimension(torch.zeros(1), dimensions=64).item()  # a uniform density codes every pixel in full
    8.0
    """
    return math.log2(levels) - log_density / (dimensions * math.log(2.0))
