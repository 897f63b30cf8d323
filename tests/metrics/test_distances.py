"""Distances between feature sets, against independent implementations and closed forms."""

import itertools

import numpy as np
import pytest
import torch
from scipy import linalg

from limbeck.errors import DataError
from limbeck.metrics import frechet_distance, kernel_distance


def normal(rows: int, features: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.eye(features) + 0.3 * torch.randn(features, features, generator=generator) / features**0.5
    return shift + scale * torch.randn(rows, features, generator=generator) @ mix


def exactly(rows: int, mean: np.ndarray, covariance: np.ndarray, seed: int) -> torch.Tensor:
    """Rows whose sample mean and sample covariance are exactly these."""
    x = np.random.default_rng(seed).normal(size=(rows, len(mean)))
    x -= x.mean(axis=0)
    white = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return torch.tensor(white @ np.linalg.cholesky(covariance).T + mean)


def reference(a: torch.Tensor, b: torch.Tensor) -> float:
    """The formula with scipy's matrix square root."""
    x, y = a.double().numpy(), b.double().numpy()
    sigma_x, sigma_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(sigma_x @ sigma_y).real
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(sigma_x + sigma_y - 2 * root))


@pytest.mark.parametrize(("rows", "features"), [(50, 3), (500, 16), (300, 64)])
def test_frechet_against_scipy(rows: int, features: int) -> None:
    a, b = normal(rows, features, seed=0), normal(rows + 7, features, seed=1, shift=0.5, scale=1.3)
    assert frechet_distance(a, b) == pytest.approx(reference(a, b), rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_frechet_closed_form_of_commuting_gaussians() -> None:
    """With a common eigenbasis the distance is the sum over axes of (mean difference)² + (deviation difference)²."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    deviations = np.array([[1.0, 2.0, 0.5, 3.0], [2.0, 1.0, 0.1, 3.5]])
    means = np.array([[0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 0.0, 3.0]])
    a, b = (exactly(200, m, basis @ np.diag(s**2) @ basis.T, seed=i) for i, (m, s) in enumerate(zip(means, deviations)))
    expected = ((means[0] - means[1]) ** 2).sum() + ((deviations[0] - deviations[1]) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_closed_form_of_general_gaussians() -> None:
    """In two dimensions tr(M^(1/2)) = sqrt(tr M + 2 sqrt(det M)) for the product of the covariances."""
    first, second = np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.7], [-0.7, 3.0]])
    product = first @ second
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = 3.0**2 + np.trace(first) + np.trace(second) - 2 * root
    a, b = exactly(100, np.array([0.0, 0.0]), first, seed=0), exactly(80, np.array([0.0, 3.0]), second, seed=1)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frechet_of_equal_sets_is_zero(dtype: torch.dtype) -> None:
    a = normal(400, 32, seed=0).to(dtype)
    assert 0 <= frechet_distance(a, a[torch.randperm(400)]) < 1e-9


def test_frechet_does_not_depend_on_the_origin() -> None:
    a, b = normal(400, 16, seed=0).double(), normal(400, 16, seed=1, shift=0.1).double()
    assert frechet_distance(a + 1e4, b + 1e4) == pytest.approx(frechet_distance(a, b), rel=1e-7)


def test_frechet_with_fewer_rows_than_features() -> None:
    """Singular covariances; tr (AB)^(1/2) is the nuclear norm of the product of any square roots of A and B."""
    a, b = normal(20, 100, seed=0).double(), normal(30, 100, seed=1, shift=0.2).double()
    x, y = (a - a.mean(0)) / 19**0.5, (b - b.mean(0)) / 29**0.5
    cross = float(torch.linalg.svdvals(x @ y.T).sum())
    expected = float((a.mean(0) - b.mean(0)).square().sum() + x.square().sum() + y.square().sum()) - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-4)
    dead = torch.cat([a, torch.zeros(20, 10)], dim=1), torch.cat([b, torch.zeros(30, 10)], dim=1)
    assert frechet_distance(*dead) == pytest.approx(expected, rel=1e-6)


def test_frechet_uses_all_rows_at_once() -> None:
    a, b = normal(2000, 32, seed=0), normal(2000, 32, seed=0, scale=1.0)[torch.randperm(2000)]
    pieces = [frechet_distance(x, y) for x, y in zip(a.split(100), b.split(100))]
    assert frechet_distance(a, b) < 1e-6 < np.mean(pieces)


def polynomial_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate, pair by pair."""

    def kernel(u: np.ndarray, v: np.ndarray) -> float:
        return float((u @ v / len(u) + 1) ** 3)

    within = [np.mean([kernel(u, v) for u, v in itertools.permutations(rows, 2)]) for rows in (x, y)]
    return float(within[0] + within[1] - 2 * np.mean([kernel(u, v) for u, v in itertools.product(x, y)]))


def test_kernel_distance_against_pairs() -> None:
    """A subset of all rows leaves nothing to chance."""
    a, b = normal(15, 4, seed=0), normal(15, 4, seed=1, shift=0.5)
    mean, spread = kernel_distance(a, b, subset_size=15, subsets=3)
    assert mean == pytest.approx(polynomial_mmd(a.double().numpy(), b.double().numpy()), rel=1e-9)
    assert spread == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_unbiased_and_orders_sets() -> None:
    a = normal(2000, 8, seed=0)
    generator = torch.Generator().manual_seed(3)
    halves = a[torch.randperm(2000, generator=generator)].split(1000)
    near, spread = kernel_distance(*halves, subset_size=100, subsets=200)
    far, _ = kernel_distance(halves[0], halves[1] + 0.5, subset_size=100, subsets=200)
    assert abs(near) < spread
    assert far > 5 * abs(near)


def test_kernel_distance_is_seeded_and_leaves_the_global_state() -> None:
    a, b = normal(200, 8, seed=0), normal(200, 8, seed=1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = kernel_distance(a, b, subset_size=50, subsets=10, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert kernel_distance(a, b, subset_size=50, subsets=10, seed=1) == first
    assert kernel_distance(a, b, subset_size=50, subsets=10, seed=2) != first


@pytest.mark.filterwarnings("error")
def test_no_warnings() -> None:
    a = normal(20, 4, seed=0)
    kernel_distance(a, a, subset_size=5, subsets=2)
    frechet_distance(a, a)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_features(bad: float) -> None:
    a, b = normal(20, 4, seed=0), normal(20, 4, seed=1)
    b[3, 1] = bad
    with pytest.raises(DataError, match="1 of 20 feature rows are NaN or infinite"):
        frechet_distance(a, b)
    with pytest.raises(DataError, match="1 of 20 feature rows"):
        kernel_distance(b, a, subset_size=5)


def test_too_few_rows_and_wrong_shapes() -> None:
    a = normal(20, 4, seed=0)
    with pytest.raises(DataError, match="1 rows, but 2 are needed"):
        frechet_distance(a, a[:1])
    with pytest.raises(DataError, match="20 rows, but 21 are needed"):
        kernel_distance(a, a, subset_size=21)
    for other in (a[:, :3], a[0]):
        with pytest.raises(DataError, match="same feature extractor"):
            frechet_distance(a, other)
    with pytest.raises(DataError, match="subset_size"):
        kernel_distance(a, a, subset_size=1)
