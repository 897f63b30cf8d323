"""The histogram estimate: bias, standard error, atoms."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.errors import DataError
from limbeck.metrics import histogram_kl


def normals(rows: int, mean: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, generator=generator), mean + torch.randn(rows, generator=generator)


def test_equal_laws_are_unbiased() -> None:
    found = [histogram_kl(*normals(5000, 0.0, seed)) for seed in range(40)]
    values = torch.tensor([estimate.value for estimate in found])
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(40)
    plain_bias = 99 * (1 / 5000 + 1 / 5000) / 2
    assert abs(values.mean()) < 0.1 * plain_bias


@pytest.mark.parametrize("mean", [0.5, 1.0])
def test_normals(mean: float) -> None:
    found = [histogram_kl(*normals(5000, mean, seed)) for seed in range(20)]
    values = torch.tensor([estimate.value for estimate in found])
    assert values.mean().item() == pytest.approx(mean**2 / 2, rel=0.05)
    error = math.fsum(estimate.error for estimate in found) / len(found)
    assert 0.7 < values.std().item() / error < 1.4


def test_counts_are_exact_cells() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.distributions.Binomial(3, torch.tensor(probs)) for probs in (0.5, 0.3))
    draws = [torch.binomial(torch.full((20000, 1), 3.0), torch.tensor(b), generator=generator) for b in (0.5, 0.3)]
    found = histogram_kl(*draws)
    assert abs(found.value - torch.distributions.kl_divergence(p, q).item()) < 3 * found.error


@pytest.mark.parametrize(("count", "level"), [(1, 0.5), (3, 0.4), (40, 0.5)])
def test_equal_discrete_laws_are_unbiased(count: int, level: float) -> None:
    """The largest value is an edge as often as not, and above it there is no cell."""
    generator = torch.Generator().manual_seed(1)
    draws = torch.binomial(torch.full((2, 200, 1000), float(count)), torch.tensor(level), generator=generator)
    found = torch.tensor([histogram_kl(p, q, repeats=2).value for p, q in draws.unbind(1)], dtype=torch.float64)
    assert abs(found.mean()) < 3 * found.std() / math.sqrt(200)
    assert histogram_kl(torch.zeros(200), torch.zeros(200)).value == 0.0


def test_a_shape_that_is_no_number() -> None:
    with pytest.raises(DataError, match=r"not \(200, 2\)"):
        histogram_kl(torch.zeros(200, 2), torch.zeros(200, 2))


def test_too_few_samples() -> None:
    with pytest.raises(DataError, match="50 samples in 100 cells"):
        histogram_kl(torch.zeros(50), torch.zeros(50))


def test_broken_samples() -> None:
    with pytest.raises(DataError, match="NaN"):
        histogram_kl(torch.full((200,), math.inf), torch.zeros(200))


@pytest.mark.slow
def test_more_samples_than_torch_takes_quantiles_of() -> None:
    found = histogram_kl(torch.zeros(9_000_000), torch.ones(9_000_000), cells=2, repeats=2)
    assert found.value == pytest.approx(math.log(1.8e7), abs=1e-4)
