"""Distances between two sets of points in a few dimensions, without features in between."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from limbeck.errors import DataError

__all__ = ["energy_distance", "maximum_mean_discrepancy", "median_distance"]

_BLOCK = 1 << 22  # pairs that are held at once: 32 MiB of float64


def energy_distance(points_a: Tensor, points_b: Tensor) -> float:
    r"""Energy distance between the laws that two sets of points were drawn from.

    .. math:: 2 E|A - B| - E|A - A'| - E|B - B'|

    0 if and only if the laws are equal. Unbiased (no point is paired with itself), so it may come out slightly
    negative. In one dimension it is twice the Cramér-von Mises distance between the distribution functions.

    Args:
        points_a: shape (rows, dimensions).
        points_b: shape (other rows, dimensions).

    Returns:
        The distance, in the unit of the points.

    Raises:
        DataError: fewer than two rows, shapes that do not fit, or points that are not finite.

    References:
        G. Székely, M. Rizzo, "Energy statistics: A class of statistics based on distances", 2013.

    >>> a = torch.tensor([[0.0], [1.0]])
    >>> energy_distance(a, a + 10.0)
    18.0
    """
    return -_discrepancy(points_a, points_b, lambda distances: distances)


def maximum_mean_discrepancy(points_a: Tensor, points_b: Tensor, *, bandwidth: float) -> float:
    r"""Squared maximum mean discrepancy with the kernel :math:`\exp(-|a - b|^2 / (2 h^2))`, unbiased.

    Args:
        points_a: shape (rows, dimensions).
        points_b: shape (other rows, dimensions).
        bandwidth: h, in the unit of the points; only values of one bandwidth compare. :func:`median_distance` of the
            reference is the usual choice.

    Returns:
        The discrepancy, at most 2; may come out slightly negative.

    Raises:
        DataError: as for :func:`energy_distance`.

    References:
        A. Gretton et al., "A Kernel Two-Sample Test", 2012, Eq. 3.
    """
    if not bandwidth > 0:
        raise DataError(f"the bandwidth must be positive, not {bandwidth}")
    return _discrepancy(points_a, points_b, lambda distances: torch.exp(-0.5 * (distances / bandwidth) ** 2))


def median_distance(points: Tensor) -> float:
    """Median distance between two different rows: the usual bandwidth of a kernel.

    Args:
        points: shape (rows, dimensions); a few thousand rows at most.

    >>> median_distance(torch.tensor([[0.0], [1.0], [3.0]]))
    2.0
    """
    points, _ = _checked(points, points)
    return float(torch.nn.functional.pdist(points).median())


def _discrepancy(points_a: Tensor, points_b: Tensor, kernel: Callable[[Tensor], Tensor]) -> float:
    a, b = _checked(points_a, points_b)
    return _mean(a, a, kernel, same=True) + _mean(b, b, kernel, same=True) - 2.0 * _mean(a, b, kernel, same=False)


def _mean(a: Tensor, b: Tensor, kernel: Callable[[Tensor], Tensor], *, same: bool) -> float:
    total = 0.0
    for part in torch.split(a, max(1, _BLOCK // len(b))):
        total += float(kernel(torch.cdist(part, b, compute_mode="donot_use_mm_for_euclid_dist")).sum())
    if not same:
        return total / (len(a) * len(b))
    return (total - len(a) * float(kernel(torch.zeros((), dtype=a.dtype)))) / (len(a) * (len(a) - 1))


def _checked(points_a: Tensor, points_b: Tensor) -> tuple[Tensor, Tensor]:
    for points in (points_a, points_b):
        if points.ndim != 2 or points.shape[1] != points_a.shape[1]:
            raise DataError(
                f"points have shapes {tuple(points_a.shape)} and {tuple(points_b.shape)}; expected two sets of shape "
                "(rows, dimensions) in one space."
            )
        if len(points) < 2:
            raise DataError(f"a set has {len(points)} rows, but 2 are needed; draw more samples.")
        if not bool(points.isfinite().all()):
            raise DataError("a set has points that are NaN or infinite; the model that drew them is broken.")
    return points_a.detach().cpu().double(), points_b.detach().cpu().double()
