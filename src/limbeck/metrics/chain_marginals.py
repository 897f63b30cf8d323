"""Laws of the last variable of a Markov chain by numerical integration, and the divergence of two laws on one grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from limbeck.errors import DataError
from limbeck.metrics.quadrature import Grid

__all__ = ["chain_marginal", "density_kl", "integer_grid", "interval_grid"]

_BLOCK = 256  # rows of a transition matrix at a time: they stay in the processor's cache


def interval_grid(low: float, high: float, count: int) -> Grid:
    """Midpoints of equal cells: they suit densities that jump at the ends as well as those that vanish there.

    >>> interval_grid(0.0, 1.0, 2).points.tolist()
    [[0.25], [0.75]]
    """
    width = (high - low) / count
    return Grid((low + width * (torch.arange(count, dtype=torch.float64) + 0.5)).unsqueeze(1), width)


def integer_grid(largest: int) -> Grid:
    """0 to ``largest``, each of weight 1: a counting variable, over which sums are exact."""
    return Grid(torch.arange(largest + 1, dtype=torch.float64).unsqueeze(1), 1.0)


@torch.no_grad()
def chain_marginal(
    conditionals: Sequence[Callable[[Tensor], Distribution]], root: Grid, density: Tensor, grid: Grid
) -> Tensor:
    r"""Law of the last variable of a chain: the Chapman-Kolmogorov equation, one matrix product per layer.

    .. math:: p(z_{i+1}) = \int p(z_i) \, p(z_{i+1} | z_i) \, dz_i \approx v \sum_k p(z_k) \, p(z_{i+1} | z_k)

    Between smooth densities the error of the midpoint rule falls faster than any power of the cells' width over the
    conditionals' scale; at a quarter of that scale it is near rounding.

    Args:
        conditionals: from values of one variable, shape (rows, 1), to the law of the next, batch shape (rows, 1).
        root: where the first variable's density is known; points of shape (root points, 1).
        density: that density, shape (root points,).
        grid: where the densities of all later variables are computed; points of shape (points, 1).

    Returns:
        Density of the last variable, shape (points,); its sum times the grid's volume shows what mass the grid misses.

    >>> from torch.distributions import Normal
    >>> grid = interval_grid(-6.0, 6.0, 240)
    >>> start = Normal(0.0, 0.8).log_prob(grid.points[:, 0]).exp()
    >>> found = chain_marginal([lambda z: Normal(z, 0.6)], grid, start, grid)
    >>> torch.allclose(found, Normal(0.0, 1.0).log_prob(grid.points[:, 0]).exp())
    True
    """
    values = grid.points[:, 0]
    points, mass = root.points, density * root.volume
    for conditional in conditionals:
        density = torch.zeros_like(values)
        for start in range(0, len(points), _BLOCK):
            rows = slice(start, start + _BLOCK)
            density += mass[rows] @ conditional(points[rows]).log_prob(values).exp()
        points, mass = grid.points, density * grid.volume
    return density


def density_kl(p: Tensor, q: Tensor, grid: Grid) -> float:
    """KL(p || q) of two densities that are known on one grid, in nats.

    Args:
        p: density of the first law, shape (points,).
        q: density of the second, shape (points,). Where it is too small for a float, it counts as the smallest.
        grid: the points.

    Raises:
        DataError: shapes differ, or a density is negative or not finite.

    >>> round(density_kl(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75]), integer_grid(1)), 4)
    0.1438
    """
    for density in (p, q):
        if density.shape != grid.points.shape[:1] or not bool((density >= 0).all() and density.isfinite().all()):
            raise DataError(
                f"a density on {len(grid.points)} points must have as many finite values of at least 0, not shape "
                f"{tuple(density.shape)} with values from {float(density.min()):.3g} to {float(density.max()):.3g}"
            )
    p, q = p.double(), q.double()
    ratio = p.log() - q.clamp(min=torch.finfo(torch.float64).tiny).log()
    return float(grid.volume * torch.where(p > 0, p * ratio, 0.0).sum())
