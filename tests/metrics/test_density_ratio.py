"""Density-ratio and histogram estimates against the closed form between normals, and against each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from limbeck.errors import DataError
from limbeck.metrics import histogram_kl, kl_density_ratio

METHODS = ["kliep", "ulsif", "classifier"]


def normal(rows: int, mean: float = 0.0, scale: float = 1.0, dimensions: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return mean + scale * torch.randn(rows, dimensions, generator=generator)


def closed_form(mean: float, scale: float, dimensions: int) -> float:
    return dimensions * (math.log(scale) + (1 + mean**2) / (2 * scale**2) - 0.5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("mean", "scale", "dimensions"), [(0.5, 1.0, 1), (1.0, 1.0, 1), (0.0, 1.5, 1), (0.5, 1.0, 2), (0.0, 1.3, 2)]
)
def test_normals(method: str, mean: float, scale: float, dimensions: int) -> None:
    p, q = normal(2000, dimensions=dimensions, seed=1), normal(2000, mean, scale, dimensions, seed=2)
    found = kl_density_ratio(p, q, method=method)
    exact = closed_form(mean, scale, dimensions)
    # A lower bound: at most three standard errors above, and at least 60 % of the divergence.
    assert 0.6 * exact - 2 * found.error < found.value < exact + 3 * found.error
    assert 0 < found.error < 0.25 * exact


@pytest.mark.parametrize("method", METHODS)
def test_equal_laws_have_no_divergence(method: str) -> None:
    values = []
    for seed in range(2):
        found = kl_density_ratio(normal(1500, seed=2 * seed), normal(1500, seed=2 * seed + 1), method=method)
        assert -0.05 < found.value < 0.02
        values.append(found.value)
    assert len(set(values)) == 2


@pytest.mark.parametrize("method", METHODS)
def test_monotone_maps_change_nothing(method: str) -> None:
    p, q = normal(1000, seed=1), normal(1000, 0.7, seed=2)
    plain = kl_density_ratio(p, q, method=method)
    bent = kl_density_ratio(p.double().exp() ** 3, q.double().exp() ** 3, method=method)
    assert bent.value == pytest.approx(plain.value, abs=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_an_atom(method: str) -> None:
    # 0 with probability 0.8 or 0.6, else uniform: KL = .8 log(.8 / .6) + .2 log(.2 / .4).
    def draw(atom: float, seed: int) -> Tensor:
        u = torch.rand(2500, 2, generator=torch.Generator().manual_seed(seed))
        return torch.where(u[:, :1] < atom, 0.0, u[:, 1:])

    found = kl_density_ratio(draw(0.8, 1), draw(0.6, 2), method=method)
    exact = 0.8 * math.log(0.8 / 0.6) + 0.2 * math.log(0.2 / 0.4)
    assert 0.6 * exact < found.value < exact + 3 * found.error


def test_the_standard_error_is_the_spread_over_samples() -> None:
    found = [
        kl_density_ratio(normal(500, seed=2 * s), normal(500, 0.7, seed=2 * s + 1), method="ulsif") for s in range(20)
    ]
    spread = torch.tensor([estimate.value for estimate in found]).std().item()
    mean_error = math.fsum(estimate.error for estimate in found) / len(found)
    assert 0.5 < spread / mean_error < 1.8


def test_it_agrees_with_a_histogram() -> None:
    p, q = normal(5000, seed=1), normal(5000, 0.8, seed=2)
    ratio, histogram = kl_density_ratio(p, q), histogram_kl(p, q)
    assert abs(ratio.value - histogram.value) < 3 * math.hypot(ratio.error, histogram.error)


def test_seeds() -> None:
    p, q = normal(300, seed=1), normal(300, 0.5, seed=2)
    assert kl_density_ratio(p, q, method="ulsif") == kl_density_ratio(p, q, method="ulsif")
    assert kl_density_ratio(p, q, method="ulsif") != kl_density_ratio(p, q, method="ulsif", seed=1)


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        (torch.zeros(100), torch.zeros(100), "shape"),
        (torch.zeros(100, 1), torch.zeros(100, 2), "equal dimensions"),
        (torch.zeros(5, 1), torch.zeros(100, 1), "too few"),
        (torch.full((100, 1), math.nan), torch.zeros(100, 1), "NaN"),
    ],
)
def test_bad_samples(p: Tensor, q: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        kl_density_ratio(p, q)


def test_unknown_method() -> None:
    with pytest.raises(DataError, match="kliep, ulsif or classifier"):
        kl_density_ratio(torch.zeros(100, 1), torch.zeros(100, 1), method="guess")
