"""Distances of laws against sorted samples, against torch, and against the formulas written out."""

import math

import pytest
import torch
from torch import distributions as D

from limbeck.core import divergence
from limbeck.core.delta import Delta
from limbeck.core.divergence import lp, wasserstein2
from limbeck.core.reparam import noise_like, push
from limbeck.errors import DivergenceError
from tests.core.divergence.families import FAMILIES, SHAPE, low_rank, mvn, normal, tensors

LOCATION_SCALE = ["Normal", "Laplace", "Gumbel", "Exponential", "HalfNormal", "Uniform"]


def on_the_line(name, seed):
    if name == "Uniform":
        low, width = tensors(seed, 2)
        return D.Uniform(low, low + width.exp())
    return FAMILIES[name](seed)


@pytest.mark.parametrize("name", LOCATION_SCALE)
def test_wasserstein2_equals_the_sorted_sample_estimate(name):
    """Evenly spaced quantiles of both sides, paired in order: the optimal coupling on the line, by definition."""
    p, q = on_the_line(name, 0), on_the_line(name, 1)
    points = 200_000
    u = ((torch.arange(points).double() + 0.5) / points).reshape(-1, 1, 1)
    if name == "Normal":
        u = torch.special.ndtri(u)
    estimate = (push(p, u) - push(q, u)).square().mean(0).sum(1)
    torch.testing.assert_close(wasserstein2(p, q), estimate, rtol=2e-3, atol=1e-6)
    torch.testing.assert_close(wasserstein2(p, p), torch.zeros(4).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(wasserstein2(p, q, normalize=True), wasserstein2(p, q) / 3)


def test_wasserstein2_of_normals_is_that_of_means_and_scales():
    p, q = normal(0), normal(1)
    expected = ((p.loc - q.loc) ** 2 + (p.scale - q.scale) ** 2).sum(1)
    torch.testing.assert_close(wasserstein2(p, q), expected)


def matrix_root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag_embed(values.clamp(min=0).sqrt()) @ vectors.mT


@pytest.mark.parametrize(
    ("p", "q"), [(mvn(0), mvn(1)), (mvn(0), low_rank(1)), (low_rank(0), low_rank(1))], ids=["full", "mixed", "low rank"]
)
def test_wasserstein2_of_multivariate_normals_is_the_bures_metric(p, q):
    first, second = p.covariance_matrix, q.covariance_matrix
    root = matrix_root(first)
    cross = matrix_root(root @ second @ root)
    trace = lambda m: m.diagonal(dim1=-2, dim2=-1).sum(-1)  # noqa: E731
    expected = (p.loc - q.loc).square().sum(1) + trace(first) + trace(second) - 2 * trace(cross)
    torch.testing.assert_close(wasserstein2(p, q), expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(wasserstein2(q, p), expected, rtol=1e-6, atol=1e-8)


def test_bures_reduces_to_the_diagonal_case():
    p, q = normal(0), normal(1)
    full = lambda d: D.MultivariateNormal(d.loc, scale_tril=torch.diag_embed(d.scale))  # noqa: E731
    expected = wasserstein2(p, q)
    torch.testing.assert_close(wasserstein2(full(p), full(q)), expected)
    torch.testing.assert_close(wasserstein2(full(p), D.Independent(q, 1)), expected)
    torch.testing.assert_close(wasserstein2(p, full(q), normalize=True), expected / 3)


def test_bures_gradient_is_finite_where_both_sides_are_equal_or_isotropic():
    tril = torch.eye(3).double().expand(2, 3, 3).clone().requires_grad_()
    loc = torch.zeros(2, 3).double()
    p = D.MultivariateNormal(loc, torch.eye(3).double())
    value = wasserstein2(p, D.MultivariateNormal(loc, scale_tril=tril))
    value.sum().backward()
    torch.testing.assert_close(tril.grad, torch.zeros(2, 3, 3).double(), atol=1e-12, rtol=0)


def test_wasserstein2_to_a_point_mass_is_the_mean_squared_distance():
    a, b = tensors(7, 2)
    q = normal(1)
    torch.testing.assert_close(wasserstein2(Delta(a), Delta(b)), (a - b).square().sum(1))
    expected = ((a - q.loc) ** 2 + q.scale**2).sum(1)
    torch.testing.assert_close(wasserstein2(Delta(a), q), expected)
    torch.testing.assert_close(wasserstein2(q, Delta(a, 1)), expected)
    for name in ("Gamma", "MultivariateNormal"):
        other = FAMILIES[name](1)
        expected = ((a - other.mean) ** 2 + other.variance).sum(1)
        torch.testing.assert_close(wasserstein2(Delta(a), other), expected)


@pytest.mark.parametrize(
    ("p", "q", "names"),
    [
        (normal(0), FAMILIES["Laplace"](0), "Normal and Laplace"),
        (FAMILIES["LogNormal"](0), FAMILIES["LogNormal"](1), "LogNormal and LogNormal"),
        (Delta(torch.zeros(SHAPE)), D.Categorical(torch.ones(4, 3, 2)), "Delta and Categorical"),
        (FAMILIES["OneHotCategorical"](0), FAMILIES["OneHotCategorical"](1), "OneHotCategorical"),
        (mvn(0), FAMILIES["OneHotCategorical"](0), "MultivariateNormal and OneHot"),
        (FAMILIES["OneHotCategorical"](0), mvn(0), "OneHotCategorical and MultivariateNormal"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_wasserstein2_without_a_closed_form_is_refused(p, q, names):
    with pytest.raises(DivergenceError, match=names):
        wasserstein2(p, q)


@pytest.mark.parametrize("order", [1.0, 1.5, 2.0, 3.0])
def test_lp_is_the_norm(order):
    a, b = tensors(7, 2, (4, 3, 5))
    p, q = Delta(a), Delta(b, 2)
    expected = torch.linalg.vector_norm((a - b).flatten(1), ord=order, dim=1)
    torch.testing.assert_close(lp(p, q, order=order), expected)
    torch.testing.assert_close(lp(p, q, order=order, root=False), expected**order)
    torch.testing.assert_close(lp(p, q, order=order, normalize=True), expected / 15 ** (1 / order))
    torch.testing.assert_close(lp(p, q, order=order, root=False, normalize=True), expected**order / 15)


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("order", [1.0, 1.5, 2.0, 3.0])
def test_lp_has_a_zero_gradient_at_equality(order, root):
    a = torch.randn(4, 3, dtype=torch.float64)
    b = a.clone().requires_grad_()
    value = lp(Delta(a), Delta(b), order=order, root=root)
    assert torch.equal(value, torch.zeros(4).double())
    value.sum().backward()
    assert torch.equal(b.grad, torch.zeros_like(b))


def test_lp_refuses_random_sites_and_orders_that_are_none():
    zero = Delta(torch.zeros(SHAPE))
    for sides in ((zero, normal(0)), (normal(0), zero)):
        with pytest.raises(DivergenceError, match="deterministic"):
            lp(*sides)
    for order in (0.5, math.inf, math.nan):
        with pytest.raises(DivergenceError, match="order"):
            lp(zero, zero, order=order)


def test_shared_noise_attains_wasserstein2():
    """Comonotone coupling: the mean squared distance between coupled samples is the distance itself."""
    p, q = FAMILIES["Laplace"](0), FAMILIES["Laplace"](1)
    wide_p, wide_q = (d.expand((100_000, 4, 3)) for d in (p, q))
    noise = noise_like(wide_p, torch.Generator().manual_seed(0))
    coupled = (push(wide_p, noise) - push(wide_q, noise)).square().mean(0).sum(1)
    torch.testing.assert_close(coupled, wasserstein2(p, q), rtol=0.05, atol=0)


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
def test_mean_lp_is_the_distance_of_sorted_samples(order: float) -> None:
    """In one dimension the optimal coupling sorts both samples; shifted laws have their shift as distance."""
    base = D.Laplace(torch.zeros(1, 1, dtype=torch.float64), torch.full((1, 1), 0.7, dtype=torch.float64))
    shifted = D.Laplace(base.loc + 1.3, base.scale)
    torch.manual_seed(0)
    left, right = base.sample((200_000,)).flatten().sort()[0], shifted.sample((200_000,)).flatten().sort()[0]
    empirical = (left - right).abs().pow(order).mean().pow(1 / order)
    assert divergence.mean_lp(base, shifted, order=order).item() == pytest.approx(empirical.item(), abs=0.02)


def test_mean_lp_bounds_other_laws_from_below() -> None:
    p = D.Normal(torch.zeros(4, 3, dtype=torch.float64), 1.0)
    q = D.Normal(torch.full((4, 3), 0.5, dtype=torch.float64), 2.0)
    torch.testing.assert_close(divergence.mean_lp(p, q), torch.full((4,), 1.5, dtype=torch.float64))
    assert (divergence.mean_lp(p, q, order=2, root=False) < divergence.wasserstein2(p, q)).all()
    with pytest.raises(DivergenceError, match="order"):
        divergence.mean_lp(p, q, order=0.5)


@pytest.mark.parametrize("name", ["Cauchy", "HalfCauchy", "Categorical"])
def test_laws_without_a_mean_are_refused_rather_than_nan(name: str) -> None:
    """Torch gives NaN or infinity for their means."""
    laws = {
        "Cauchy": D.Cauchy(torch.zeros(SHAPE), 1.0),
        "HalfCauchy": D.HalfCauchy(torch.ones(SHAPE)),
        "Categorical": D.Categorical(torch.ones(*SHAPE, 2)),
    }
    zero = Delta(torch.zeros(SHAPE))
    for p, q in ((laws[name], zero), (zero, laws[name]), (laws[name], laws[name])):
        with pytest.raises(DivergenceError, match=rf"compares the means .*{name}.* has none"):
            divergence.mean_lp(p, q)
        with pytest.raises(DivergenceError, match=f"{name}.* no closed form"):
            wasserstein2(p, q)


def test_whole_numbers_are_subtracted_as_numbers() -> None:
    """The bytes of an image have no negative differences, and the mean of integers is no integer."""
    for dtype in (torch.uint8, torch.int64, torch.bool):
        p, q = Delta(torch.tensor([[0, 1, 1]]).to(dtype)), Delta(torch.tensor([[1, 0, 1]]).to(dtype))
        for found in (lp(p, q, normalize=True), divergence.mean_lp(p, q, normalize=True)):
            assert torch.equal(found, torch.tensor([2 / 3]))
        assert torch.equal(wasserstein2(p, q), torch.tensor([2.0]))
