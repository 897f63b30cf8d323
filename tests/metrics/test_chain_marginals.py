"""Marginals of chains on grids against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Binomial, Normal

from limbeck.errors import DataError
from limbeck.metrics import chain_marginal, density_kl, integer_grid, interval_grid


def test_a_linear_gaussian_chain() -> None:
    grid = interval_grid(-12.0, 12.0, 480)
    root = Normal(torch.tensor(0.5, dtype=torch.float64), 0.7)
    steps = [lambda z: Normal(0.9 * z + 0.1, 0.3), lambda z: Normal(1.2 * z, 0.4), lambda z: Normal(z - 1.0, 0.2)]
    found = chain_marginal(steps, grid, root.log_prob(grid.points[:, 0]).exp(), grid)
    mean, variance = 0.5, 0.49
    for slope, offset, scale in ((0.9, 0.1, 0.3), (1.2, 0.0, 0.4), (1.0, -1.0, 0.2)):
        mean, variance = slope * mean + offset, slope**2 * variance + scale**2
    exact = Normal(torch.tensor(mean, dtype=torch.float64), math.sqrt(variance)).log_prob(grid.points[:, 0]).exp()
    torch.testing.assert_close(found, exact, atol=1e-9, rtol=0)


def test_a_binomial_of_a_binomial_is_binomial() -> None:
    grid = integer_grid(12)
    probs = torch.tensor(0.7, dtype=torch.float64)
    start = Binomial(12, probs).log_prob(grid.points[:, 0]).exp()
    # Thinning: z2 ~ Bin(12, z1 / 12) has mean 12 p and variance n p (1 - p) (2 - 1 / n).
    law = chain_marginal([lambda z: Binomial(12, z / 12, validate_args=False)], grid, start, grid)
    counts = grid.points[:, 0]
    assert law.sum().item() == pytest.approx(1.0, abs=1e-12)
    mean = (law * counts).sum()
    assert mean.item() == pytest.approx(12 * 0.7, abs=1e-4)  # torch keeps probabilities off 0 and 1
    assert (law * (counts - mean) ** 2).sum().item() == pytest.approx(12 * 0.21 * (2 - 1 / 12), abs=1e-3)


def test_the_divergence_of_normals() -> None:
    grid = interval_grid(-15.0, 15.0, 600)
    p, q = (Normal(torch.tensor(m, dtype=torch.float64), s) for m, s in ((0.0, 1.0), (0.7, 1.4)))
    found = density_kl(*(law.log_prob(grid.points[:, 0]).exp() for law in (p, q)), grid)
    assert found == pytest.approx(torch.distributions.kl_divergence(p, q).item(), abs=1e-10)


def test_where_the_second_has_no_mass_the_divergence_is_large_and_finite() -> None:
    found = density_kl(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]), integer_grid(1))
    assert 300 < found < 400
    assert density_kl(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]), integer_grid(1)) == pytest.approx(math.log(2))


@pytest.mark.parametrize("bad", [torch.tensor([0.5, -0.1]), torch.tensor([0.5, math.nan]), torch.tensor([1.0])])
def test_bad_densities(bad: torch.Tensor) -> None:
    with pytest.raises(DataError, match="on 2 points"):
        density_kl(bad, torch.tensor([0.5, 0.5]), integer_grid(1))
