"""Divergences on a grid against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from limbeck.errors import DataError
from limbeck.metrics import Grid, kl_on_grid


def test_grid_covers_the_box() -> None:
    grid = Grid.over([-1.0, 0.0], [1.0, 6.0], 5)
    assert grid.points.shape == (25, 2)
    assert grid.points.min(0).values.tolist() == [-1.0, 0.0]
    assert grid.points.max(0).values.tolist() == [1.0, 6.0]
    assert grid.volume == pytest.approx(0.5 * 1.5)
    assert len({tuple(point) for point in grid.points.tolist()}) == 25


def test_kl_of_gaussians() -> None:
    p = MultivariateNormal(torch.tensor([0.3, -0.5]).double(), torch.tensor([[1.0, 0.6], [0.6, 0.8]]).double())
    q = MultivariateNormal(torch.tensor([-0.2, 0.4]).double(), torch.tensor([[0.7, -0.1], [-0.1, 0.5]]).double())
    divergence, mass = kl_on_grid(p.log_prob, q.log_prob, Grid.over([-9.0, -9.0], [9.0, 9.0], 121))
    assert divergence == pytest.approx(kl_divergence(p, q).item(), rel=1e-9)
    assert mass == pytest.approx(1.0, abs=1e-9)


def test_mass_tells_that_the_box_is_too_small() -> None:
    p = MultivariateNormal(torch.zeros(1).double(), torch.eye(1).double())
    _, mass = kl_on_grid(p.log_prob, p.log_prob, Grid.over([-1.0], [1.0], 101))
    assert mass == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.01)


def test_no_mass_is_no_divergence_however_impossible() -> None:
    p = MultivariateNormal(torch.zeros(1).double(), torch.eye(1).double())

    def cut(x: torch.Tensor) -> torch.Tensor:
        return p.log_prob(x).masked_fill(x[:, 0].abs() > 40.0, -math.inf)

    assert kl_on_grid(p.log_prob, cut, Grid.over([-60.0], [60.0], 601))[0] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("lower", "upper", "steps"), [([0.0], [0.0], 5), ([0.0], [1.0], 2), ([0.0] * 4, [1.0] * 4, 99)]
)
def test_bad_grids_are_refused(lower: list[float], upper: list[float], steps: int) -> None:
    with pytest.raises(DataError):
        Grid.over(lower, upper, steps)
