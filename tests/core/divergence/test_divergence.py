"""Divergences against Monte Carlo, against torch, and against the formulas written out."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions as D

from limbeck.core import divergence
from limbeck.core.delta import Delta
from limbeck.core.divergence import cross_entropy, kl, kl_monte_carlo, latent_default, lp, nll, wasserstein2
from limbeck.core.reparam import noise_like, push
from limbeck.errors import DivergenceError, ReparameterizationError

SHAPE = (4, 3)


def tensors(seed, count, shape=SHAPE):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=g) for _ in range(count)]


def normal(seed):
    loc, scale = tensors(seed, 2)
    return D.Normal(loc, scale.exp())


def mvn(seed):
    loc, (factor,) = tensors(seed, 1)[0], tensors(seed, 1, (4, 3, 3))
    return D.MultivariateNormal(loc, factor @ factor.mT + 0.1 * torch.eye(3).double())


def low_rank(seed):
    (loc, diagonal), (factor,) = tensors(seed, 2), tensors(seed, 1, (4, 3, 1))
    return D.LowRankMultivariateNormal(loc, factor, diagonal.exp())


def loc_scale(family, seed):
    loc, scale = tensors(seed, 2)
    # Scales of one size: the log-ratio of two Gumbels of very different scale has no variance to estimate an error by.
    return family(loc, (0.2 * scale).exp())


FAMILIES = {
    "Normal": normal,
    "LogNormal": partial(loc_scale, D.LogNormal),
    "Laplace": partial(loc_scale, D.Laplace),
    "Gumbel": partial(loc_scale, D.Gumbel),
    "Exponential": lambda s: D.Exponential(tensors(s, 1)[0].exp()),
    "HalfNormal": lambda s: D.HalfNormal(tensors(s, 1)[0].exp()),
    "Gamma": lambda s: D.Gamma(*(t.exp() for t in tensors(s, 2))),
    "Bernoulli": lambda s: D.Bernoulli(logits=tensors(s, 1)[0]),
    "Binomial": lambda s: D.Binomial(6, logits=tensors(s, 1)[0]),
    "Poisson": lambda s: D.Poisson(tensors(s, 1)[0].exp()),
    "Geometric": lambda s: D.Geometric(logits=tensors(s, 1)[0]),
    "Categorical": lambda s: D.Categorical(logits=tensors(s, 1, (4, 3, 5))[0]),
    "OneHotCategorical": lambda s: D.OneHotCategorical(logits=tensors(s, 1)[0]),
    "MultivariateNormal": mvn,
    "LowRankMultivariateNormal": low_rank,
}


def by_rows(elements):
    return elements.reshape(elements.shape[0], -1).sum(1)


# -------------------------------------------------------------------------------------------------------------- KL


@pytest.mark.parametrize("name", FAMILIES)
def test_kl_equals_torch_and_is_zero_at_the_teacher(name):
    p, q = FAMILIES[name](0), FAMILIES[name](1)
    value = kl(p, q)
    assert value.shape == (4,)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, by_rows(D.kl_divergence(p, q)), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(kl(p, p), torch.zeros(4).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(kl(p, q, normalize=True), value / 3)


@pytest.mark.parametrize("name", FAMILIES)
def test_kl_equals_its_monte_carlo_estimate(name):
    p, q = FAMILIES[name](0), FAMILIES[name](2)
    torch.manual_seed(0)
    size = 20_000
    expand = lambda d: d.expand((size, *d.batch_shape))  # noqa: E731
    wide_p, wide_q = expand(p), expand(q)
    sample = wide_p.sample()
    log_ratio = (wide_p.log_prob(sample) - wide_q.log_prob(sample)).reshape(size, 4, -1).sum(-1)
    error = (log_ratio.mean(0) - kl(p, q)) / (log_ratio.std(0) / math.sqrt(size))
    assert error.abs().max() < 4.5


@pytest.mark.parametrize("name", ["Normal", "StudentT", "Bernoulli", "MultivariateNormal", "Categorical", "Gamma"])
def test_kl_monte_carlo_is_unbiased(name):
    if name == "StudentT":
        p, q = D.StudentT(torch.full(SHAPE, 6.0).double()), D.Normal(torch.zeros(SHAPE).double(), 1.3)
        x = torch.linspace(-300, 300, 200_001).double().unsqueeze(-1)
        one_p, one_q = D.StudentT(torch.tensor([6.0]).double()), D.Normal(torch.zeros(1).double(), 1.3)
        exact = torch.trapezoid(one_p.log_prob(x).exp() * (one_p.log_prob(x) - one_q.log_prob(x)), x, dim=0)
        exact = (exact * 3).expand(4)
    else:
        p, q = FAMILIES[name](0), FAMILIES[name](1)
        exact = kl(p, q)
    torch.manual_seed(0)
    draws = torch.stack([kl_monte_carlo(p, q) for _ in range(400)])
    error = (draws.mean(0) - exact) / (draws.std(0) / 20)
    assert error.abs().max() < 4
    mean = kl_monte_carlo(p, q, samples=400)
    assert ((mean - exact) / (draws.std(0) / 20)).abs().max() < 4
    assert kl_monte_carlo(p, q, samples=2, normalize=True).shape == (4,)


def test_kl_monte_carlo_is_reproducible_and_has_the_student_gradient():
    p, q = normal(0), normal(1)
    loc = q.loc.clone().requires_grad_()
    estimate = lambda seed: kl_monte_carlo(  # noqa: E731
        p, D.Normal(loc, q.scale), samples=3, generator=torch.Generator().manual_seed(seed)
    )
    assert torch.equal(estimate(0), estimate(0))
    assert not torch.equal(estimate(0), estimate(1))
    estimate(0).sum().backward()
    assert loc.grad.abs().sum() > 0


def test_kl_monte_carlo_normalizes_by_the_value():
    p, q = mvn(0), mvn(1)
    g = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    torch.testing.assert_close(
        kl_monte_carlo(p, q, generator=g(), normalize=True), kl_monte_carlo(p, q, generator=g()) / 3
    )


def test_kl_monte_carlo_errors():
    with pytest.raises(DivergenceError, match="at least one sample"):
        kl_monte_carlo(normal(0), normal(1), samples=0)
    with pytest.raises(DivergenceError, match="support"):
        kl_monte_carlo(normal(0), FAMILIES["Exponential"](0))
    with pytest.raises(DivergenceError, match="point mass"):
        kl_monte_carlo(Delta(torch.zeros(4, 3)), normal(1))
    gamma = FAMILIES["Gamma"](0)
    with pytest.raises(ReparameterizationError, match="Gamma"):
        kl_monte_carlo(gamma, gamma, generator=torch.Generator())


def test_kl_monte_carlo_tells_supports_apart_without_validation(monkeypatch):
    """As it is in any process that has imported zuko."""
    monkeypatch.setattr(D.Distribution, "_validate_args", False)
    with pytest.raises(DivergenceError, match="support"):
        kl_monte_carlo(normal(0), FAMILIES["Exponential"](0))
    assert torch.isfinite(kl_monte_carlo(FAMILIES["Exponential"](0), normal(0))).all()


def test_half_squared_error_is_kl_between_unit_variance_normals():
    """[D] Eq. 10: the denoising student's loss."""
    a, b = tensors(3, 2, (4, 3, 8, 8))
    loss = kl(D.Normal(a, torch.ones_like(a)), D.Normal(b, torch.ones_like(b)))
    torch.testing.assert_close(loss, 0.5 * (a - b).square().sum((1, 2, 3)))


def test_kl_between_normals_is_accurate_when_almost_equal():
    p = D.Normal(torch.zeros(2, 1000), 1.0)
    q = D.Normal(torch.zeros(2, 1000), 1.0 + 1e-3)
    exact = 1000 * (math.log(1 + 1e-3) + 0.5 / (1 + 1e-3) ** 2 - 0.5)
    torch.testing.assert_close(kl(p, q), torch.full((2,), exact), rtol=0.1, atol=0)


def test_independent_makes_no_difference():
    p, q = normal(0), normal(1)
    expected = kl(p, q)
    for left, right in [
        (D.Independent(p, 1), D.Independent(q, 1)),
        (D.Independent(p, 1), q),
        (D.Independent(p, 2), D.Independent(D.Independent(q, 1), 1)),
    ]:
        for f in (kl, wasserstein2, latent_default):
            torch.testing.assert_close(f(left, right), f(p, q))
        torch.testing.assert_close(cross_entropy(left, right), expected + by_rows(p.entropy()))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_temperature_by_hand(temperature):
    a, b = tensors(0, 2, (4, 5))
    soft_p, soft_q = torch.softmax(a / temperature, -1), torch.softmax(b / temperature, -1)
    expected = temperature**2 * (soft_p * (soft_p / soft_q).log()).sum(-1)
    for family in (D.Categorical, D.OneHotCategorical):
        torch.testing.assert_close(kl(family(logits=a), family(logits=b), temperature=temperature), expected)
    s, t = torch.sigmoid(a / temperature), torch.sigmoid(b / temperature)
    expected = temperature**2 * (s * (s / t).log() + (1 - s) * ((1 - s) / (1 - t)).log()).sum(-1)
    value = kl(D.Bernoulli(logits=a), D.Bernoulli(logits=b), temperature=temperature)
    torch.testing.assert_close(value, expected)


def test_temperature_keeps_the_size_of_the_gradient():
    """T^2 KL(p/T || q/T) tends to half the variance of the difference of logits (Hinton et al., 2015, section 2.1)."""
    a, b = tensors(0, 2, (4, 5))
    value = kl(D.Categorical(logits=a), D.Categorical(logits=b), temperature=1e4)
    torch.testing.assert_close(value, 0.5 * (a - b).var(-1, correction=0), rtol=1e-3, atol=1e-6)


def test_temperature_is_refused_where_it_means_nothing():
    with pytest.raises(DivergenceError, match=r"Normal.*Normal"):
        kl(normal(0), normal(1), temperature=2.0)
    with pytest.raises(DivergenceError, match="Categorical and Bernoulli"):
        kl(D.Categorical(torch.ones(4, 3, 2)), D.Bernoulli(torch.full(SHAPE, 0.5)), temperature=2.0)
    with pytest.raises(DivergenceError, match="positive"):
        kl(FAMILIES["Bernoulli"](0), FAMILIES["Bernoulli"](1), temperature=0.0)


def test_impossible_categories_cost_nothing_and_have_no_nan_gradient():
    p_logits = torch.tensor([[0.0, 1.0, -torch.inf]], dtype=torch.float64, requires_grad=True)
    q_logits = torch.tensor([[0.5, 0.0, -torch.inf]], dtype=torch.float64, requires_grad=True)
    value = kl(D.Categorical(logits=p_logits), D.Categorical(logits=q_logits))
    two = kl(D.Categorical(logits=p_logits[:, :2]), D.Categorical(logits=q_logits[:, :2]))
    torch.testing.assert_close(value, two)
    value.sum().backward()
    assert q_logits.grad.isfinite().all()
    assert p_logits.grad.isfinite().all()


def test_a_bit_that_the_teacher_masks_has_its_divergence():
    p = D.Bernoulli(logits=torch.tensor([[-torch.inf], [torch.inf]], dtype=torch.float64))
    logits = torch.tensor([[0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    result = kl(p, D.Bernoulli(logits=logits))
    expected = torch.tensor([math.log(2.0), math.log1p(math.exp(-1.0))], dtype=torch.float64)
    torch.testing.assert_close(result, expected)
    (gradient,) = torch.autograd.grad(result.sum(), logits)
    torch.testing.assert_close(gradient.flatten(), torch.sigmoid(logits).flatten() - torch.tensor([0.0, 1.0]).double())


def test_unequal_supports_give_infinity():
    p = D.Categorical(logits=torch.tensor([[0.0, 0.0]]))
    q = D.Categorical(logits=torch.tensor([[0.0, -torch.inf]]))
    assert kl(p, q).isinf().all()
    assert kl(q, p).isfinite().all()
    wide, narrow = D.Uniform(torch.zeros(2), 2 * torch.ones(2)), D.Uniform(torch.zeros(2), torch.ones(2))
    assert kl(wide, narrow).isinf().all()
    torch.testing.assert_close(kl(narrow, wide), torch.full((2,), math.log(2)))


@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_bernoulli_kl_with_extreme_logits(scale):
    a, b = (scale * t for t in tensors(0, 2))
    p, q = D.Bernoulli(logits=a), D.Bernoulli(logits=b)
    log1m = torch.nn.functional.logsigmoid
    expected = p.probs * (log1m(a) - log1m(b)) + torch.sigmoid(-a) * (log1m(-a) - log1m(-b))
    torch.testing.assert_close(kl(p, q), by_rows(expected), rtol=1e-8, atol=1e-10)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-50, 50), min_size=3, max_size=3),
    st.lists(st.floats(-50, 50), min_size=3, max_size=3),
    st.floats(0.3, 5),
)
def test_kl_is_never_negative(a, b, temperature):
    p, q = torch.tensor([a]).double(), torch.tensor([b]).double()
    assert kl(D.Categorical(logits=p), D.Categorical(logits=q), temperature=temperature).item() >= -1e-9
    assert kl(D.Bernoulli(logits=p), D.Bernoulli(logits=q), temperature=temperature).item() >= -1e-9
    left, right = D.Normal(p, (p / 10).exp()), D.Normal(q, (q / 10).exp())
    assert kl(left, right).item() >= -1e-9
    assert wasserstein2(left, right).item() >= 0


# --------------------------------------------------------------------------------------- cross-entropy, likelihood


@pytest.mark.parametrize(
    "name", ["Normal", "Bernoulli", "Categorical", "OneHotCategorical", "Gamma", "MultivariateNormal"]
)
def test_cross_entropy_is_kl_plus_entropy(name):
    p, q = FAMILIES[name](0), FAMILIES[name](1)
    value = cross_entropy(p, q)
    assert value.shape == (4,)
    torch.testing.assert_close(value - kl(p, q), by_rows(p.entropy()))
    torch.testing.assert_close(cross_entropy(p, q, normalize=True), value / 3)


def test_cross_entropy_of_categoricals_is_torchs():
    a, b = tensors(0, 2, (4, 5))
    expected = torch.nn.functional.cross_entropy(b, a.softmax(-1), reduction="none")
    torch.testing.assert_close(cross_entropy(D.Categorical(logits=a), D.Categorical(logits=b)), expected)


def test_cross_entropy_without_an_entropy():
    p = D.TransformedDistribution(normal(0), [D.SigmoidTransform()])
    with pytest.raises(DivergenceError, match="entropy"):
        cross_entropy(p, p)


def test_nll_is_the_likelihood_of_the_teachers_value():
    (value,) = tensors(5, 1)
    q = normal(1)
    expected = (0.5 * ((value - q.loc) / q.scale) ** 2 + q.scale.log() + 0.5 * math.log(2 * math.pi)).sum(1)
    torch.testing.assert_close(nll(Delta(value), q), expected)
    torch.testing.assert_close(nll(Delta(value, 1), D.Independent(q, 1), normalize=True), expected / 3)
    torch.testing.assert_close(cross_entropy(Delta(value), q), expected)
    torch.testing.assert_close(nll(Delta(value), mvn(1)), -mvn(1).log_prob(value))
    with pytest.raises(DivergenceError, match="cross_entropy"):
        nll(q, q)


# ------------------------------------------------------------------------------------------------------ transport

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


def test_wasserstein2_of_normals_by_hand():
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


def test_wasserstein2_with_point_masses():
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
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_wasserstein2_without_a_closed_form(p, q, names):
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


def test_lp_errors():
    zero = Delta(torch.zeros(SHAPE))
    with pytest.raises(DivergenceError, match="deterministic"):
        lp(zero, normal(0))
    for order in (0.5, math.inf, math.nan):
        with pytest.raises(DivergenceError, match="order"):
            lp(zero, zero, order=order)


# --------------------------------------------------------------------------------------------- latents, contract


def test_latent_default_chooses_by_the_kind_of_latent():
    """[U] App. F."""
    p, q = normal(0), normal(1)
    torch.testing.assert_close(latent_default(p, q), wasserstein2(p, q) / 3)
    p, q = FAMILIES["Bernoulli"](0), FAMILIES["Bernoulli"](1)
    torch.testing.assert_close(latent_default(p, q), kl(p, q))
    a, b = tensors(0, 2)
    torch.testing.assert_close(latent_default(Delta(a), Delta(b)), (a - b).square().mean(1))
    torch.testing.assert_close(latent_default(normal(0), normal(1), continuous=kl), kl(normal(0), normal(1)))
    with pytest.raises(DivergenceError, match="discrete"):
        latent_default(normal(0), p)


BINARY = {"kl": kl, "kl_monte_carlo": kl_monte_carlo, "wasserstein2": wasserstein2, "cross_entropy": cross_entropy}


@pytest.mark.parametrize("name", BINARY)
def test_gradients_reach_both_sides(name):
    function = BINARY[name]
    parameters = [t.requires_grad_() for t in tensors(0, 4)]

    def f(a, b, c, d):
        p, q = D.Normal(a, b.exp()), D.Normal(c, d.exp())
        if name == "kl_monte_carlo":
            return function(p, q, generator=torch.Generator().manual_seed(0))
        return function(p, q)

    assert torch.autograd.gradcheck(f, parameters)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("family", [D.Categorical, D.OneHotCategorical, D.Bernoulli])
def test_gradients_of_discrete_kl(family, temperature):
    parameters = [t.requires_grad_() for t in tensors(0, 2)]
    assert torch.autograd.gradcheck(
        lambda a, b: kl(family(logits=a), family(logits=b), temperature=temperature), parameters
    )


MODULES = {"CRD", "FeatureDistance", "Learned", "LwF", "ObservationModel", "Regressor", "Trimmed", "VID"}
MAKERS = MODULES | {"decoupled_kl", "standardized_kl", "tempered_kl"}  # called with settings, they return a divergence


@pytest.mark.parametrize("name", sorted(set(divergence.__all__) - MAKERS))
def test_shape_errors_name_both_shapes(name):
    function = getattr(divergence, name)
    p, q = Delta(torch.zeros(4, 3)), D.Normal(torch.zeros(4, 2), 1.0)
    with pytest.raises(DivergenceError, match=r"Delta.*\(4, 3\).*Normal.*\(4, 2\)"):
        function(p, q)
    with pytest.raises(DivergenceError, match="no batch dimension"):
        function(D.Normal(0.0, 1.0), D.Normal(0.0, 1.0))


def test_numbers_of_categories_must_agree():
    with pytest.raises(DivergenceError, match=r"3 categories.*\(4, 3\).*5.*\(4, 5\)"):
        kl(D.Categorical(torch.ones(4, 3)), D.Categorical(torch.ones(4, 5)))
    with pytest.raises(DivergenceError, match="3 categories"):
        kl(D.Categorical(torch.ones(4, 3)), D.Categorical(torch.ones(4, 5)), temperature=2.0)


def test_a_batch_hidden_in_a_multivariate_event_is_refused():
    p = D.MultivariateNormal(torch.zeros(3), torch.eye(3))
    with pytest.raises(DivergenceError, match="batch dimension"):
        kl(p, p)


def test_kl_without_a_closed_form_names_both_and_the_way_out():
    with pytest.raises(DivergenceError, match=r"KL\(StudentT \|\| Normal\).*kl_monte_carlo"):
        kl(D.StudentT(torch.full(SHAPE, 5.0)), D.Normal(torch.zeros(SHAPE), 1.0))
    zero = Delta(torch.zeros(SHAPE))
    with pytest.raises(DivergenceError, match=r"divergence\.lp"):
        kl(zero, zero)
    with pytest.raises(DivergenceError, match="nll"):
        kl(zero, D.Normal(torch.zeros(SHAPE), 1.0))


def test_normalize_counts_all_dimensions_but_the_batch():
    a, b = tensors(0, 2, (4, 3, 8, 8))
    p, q = D.Normal(a, torch.ones_like(a)), D.Normal(b, torch.ones_like(b))
    for f in (kl, wasserstein2, cross_entropy):
        torch.testing.assert_close(f(p, q, normalize=True), f(p, q) / 192)
        torch.testing.assert_close(f(D.Independent(p, 3), D.Independent(q, 3), normalize=True), f(p, q) / 192)


def test_one_number_per_row_needs_no_other_dimension():
    p, q = D.Normal(torch.zeros(4), 1.0), D.Normal(torch.ones(4), 1.0)
    torch.testing.assert_close(kl(p, q, normalize=True), torch.full((4,), 0.5))


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
    assert (divergence.mean_lp(p, q, order=2, root=False) < divergence.wasserstein2(p, q)).all()
    with pytest.raises(DivergenceError, match="order"):
        divergence.mean_lp(p, q, order=0.5)


def test_binomials_next_to_certainty_and_of_other_counts():
    """A float32 logit of 18 is a probability that rounds to 1, whose log(1 - q) torch's own formula takes."""
    p, q = (D.Binomial(1000, logits=torch.tensor([logit])) for logit in (14.0, 18.0))
    exact = kl(*(D.Binomial(1000, logits=torch.tensor([logit]).double()) for logit in (14.0, 18.0)))
    assert not torch.isfinite(D.kl_divergence(p, q)).all()
    assert torch.allclose(kl(p, q).double(), exact, atol=1000 * 4e-6)
    with pytest.raises(DivergenceError, match="different numbers of trials"):
        kl(p, D.Binomial(999, logits=torch.tensor([18.0])))


class OwnKL(D.Normal):
    """A law that knows a divergence of its own."""

    def closed_form_kl(self, other):
        return (self.loc - other.loc).abs() * 7


class NoKL(D.Normal):
    """A law that says it has none."""

    def closed_form_kl(self, other):
        raise NotImplementedError


def test_a_law_may_bring_its_own_kl():
    (a, b) = tensors(0, 2)
    own = kl(OwnKL(a, 1.0), OwnKL(b, 1.0))
    assert torch.equal(own, ((a - b).abs() * 7).sum(1))
    with pytest.raises(DivergenceError, match="NoKL"):
        kl(NoKL(a, 1.0), NoKL(b, 1.0))
