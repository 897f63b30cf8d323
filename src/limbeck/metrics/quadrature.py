"""Divergences between densities that can be evaluated anywhere, on a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.errors import DataError

__all__ = ["Grid", "kl_on_grid"]

_LARGEST = 1 << 22


class Grid(NamedTuple):
    """Points of a regular grid and what each stands for.

    Attributes:
        points: shape (points, dimensions), float64.
        volume: of the cell of one point.
    """

    points: Tensor
    volume: float

    @classmethod
    def over(cls, lower: Sequence[float], upper: Sequence[float], steps: int) -> Grid:
        """The grid of a box.

        Args:
            lower: smallest coordinates.
            upper: largest coordinates.
            steps: points per dimension, at least 3.

        Raises:
            DataError: the box is empty, or there would be too many points.

        >>> Grid.over([0.0, 0.0], [1.0, 2.0], 3).points.shape
        torch.Size([9, 2])
        """
        if steps < 3 or not all(low < high for low, high in zip(lower, upper, strict=True)):
            raise DataError(f"a grid needs 3 steps and an upper corner above the lower, not {steps}, {lower}, {upper}")
        if steps ** len(lower) > _LARGEST:
            raise DataError(f"{steps} steps in {len(lower)} dimensions are too many points; use fewer steps")
        axes = [torch.linspace(low, high, steps, dtype=torch.float64) for low, high in zip(lower, upper, strict=True)]
        volume = 1.0
        for axis in axes:
            volume *= float(axis[1] - axis[0])
        return cls(torch.cartesian_prod(*axes).reshape(-1, len(axes)), volume)


def kl_on_grid(log_p: Callable[[Tensor], Tensor], log_q: Callable[[Tensor], Tensor], grid: Grid) -> tuple[float, float]:
    """KL(p || q) as a sum over the cells of the grid's points.

    Where p vanishes at the borders this is the trapezoidal rule, which for smooth densities converges faster than any
    power of the spacing; mass at a border counts for a whole cell, half of which is outside.

    Args:
        log_p: log-density of points of shape (points, dimensions), shape (points,).
        log_q: the same of the other.
        grid: must reach as far as p has mass, with a spacing below the width of its narrowest part.

    Returns:
        The divergence in nats, and the mass of p on the grid: its difference from 1 shows the error of both.

    >>> grid = Grid.over([-9.0], [9.0], 61)
    >>> normal = lambda mean: lambda x: -0.5 * (x[:, 0] - mean) ** 2 - 0.9189385332046727
    >>> [round(value, 9) for value in kl_on_grid(normal(0.0), normal(1.0), grid)]
    [0.5, 1.0]
    """
    p = log_p(grid.points)
    weights = p.exp() * grid.volume
    # Far out p underflows to 0, and 0 times an infinite log-ratio is 0 here.
    ratio = torch.where(weights > 0, p - log_q(grid.points), 0.0)
    return float((weights * ratio).sum()), float(weights.sum())
