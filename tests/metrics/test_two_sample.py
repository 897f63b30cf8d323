"""Energy distance and MMD against scipy, closed forms and double loops."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from limbeck.errors import DataError
from limbeck.metrics import energy_distance, maximum_mean_discrepancy, median_distance, two_sample


def points(rows: int, dimensions: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(rows, dimensions, generator=torch.Generator().manual_seed(seed)).double() + shift


def paired(a: torch.Tensor, b: torch.Tensor, kernel) -> float:
    def mean(left, right, same):
        pairs = [(x, y) for i, x in enumerate(left) for j, y in enumerate(right) if not (same and i == j)]
        return sum(kernel(float((x - y).norm())) for x, y in pairs) / len(pairs)

    return mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_both_are_the_means_over_pairs(dimensions: int) -> None:
    a, b = points(13, dimensions, 0), points(9, dimensions, 1, 0.5)
    assert energy_distance(a, b) == pytest.approx(-paired(a, b, lambda d: d), rel=1e-12)
    found = maximum_mean_discrepancy(a, b, bandwidth=0.7)
    assert found == pytest.approx(paired(a, b, lambda d: math.exp(-(d**2) / (2 * 0.7**2))), rel=1e-12)


def test_energy_distance_against_scipy() -> None:
    a, b = points(3000, 1, 0), points(3000, 1, 1, 1.0)
    # scipy takes the root, and pairs each point with itself too, which adds mean distances / rows.
    biased = stats.energy_distance(a[:, 0].numpy(), b[:, 0].numpy()) ** 2
    self_pairs = 2 * (2 / math.sqrt(math.pi)) / 3000
    assert energy_distance(a, b) == pytest.approx(biased - self_pairs, abs=2e-5)


def test_mmd_of_gaussians_has_its_closed_form() -> None:
    h, shift = 0.8, 1.5
    same = (h**2 / (h**2 + 2)) ** 0.5
    exact = 2 * same - 2 * same * math.exp(-(shift**2) / (2 * (h**2 + 2)))
    found = [
        maximum_mean_discrepancy(points(600, 1, 2 * s), points(600, 1, 2 * s + 1, shift), bandwidth=h) for s in range(8)
    ]
    assert sum(found) / 8 == pytest.approx(exact, abs=0.02)


def test_equal_laws_give_zero_on_average() -> None:
    energies, discrepancies = [], []
    for seed in range(30):
        a, b = points(100, 2, 2 * seed), points(60, 2, 2 * seed + 1)
        energies.append(energy_distance(a, b))
        discrepancies.append(maximum_mean_discrepancy(a, b, bandwidth=1.0))
    for values in (energies, discrepancies):
        deviation = torch.tensor(values).std() / math.sqrt(30)
        assert abs(sum(values) / 30) < 3 * deviation
        assert min(values) < 0  # unbiased: not cut off at 0


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = points(50, 2, 0), points(40, 2, 1, 0.3)
    whole = energy_distance(a, b)
    monkeypatch.setattr(two_sample, "_BLOCK", 70)
    assert energy_distance(a, b) == pytest.approx(whole, rel=1e-12)


def test_points_far_from_the_origin_keep_their_digits() -> None:
    a, b = points(50, 2, 0), points(40, 2, 1, 0.3)
    assert energy_distance(a + 1e6, b + 1e6) == pytest.approx(energy_distance(a, b), rel=1e-6)


def test_median_distance_is_that_of_pairs() -> None:
    a = points(20, 3, 0)
    distances = sorted(float((x - y).norm()) for i, x in enumerate(a) for y in a[i + 1 :])
    assert median_distance(a) == pytest.approx(distances[(len(distances) - 1) // 2])


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 1), "shapes"),
        (torch.zeros(3), torch.zeros(3), "shapes"),
        (torch.zeros(1, 2), torch.zeros(3, 2), "1 rows, but 2 are needed"),
        (torch.zeros(3, 2), torch.full((3, 2), math.nan), "NaN or infinite"),
    ],
)
def test_bad_points_are_refused(a: torch.Tensor, b: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        energy_distance(a, b)


def test_a_bandwidth_must_be_positive() -> None:
    with pytest.raises(DataError, match="bandwidth must be positive, not 0"):
        maximum_mean_discrepancy(points(3, 2, 0), points(3, 2, 1), bandwidth=0.0)
