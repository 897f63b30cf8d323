"""KL in closed form and cross-entropy, against Monte Carlo, torch, and the formulas written out."""

import math

import pytest
import torch
from torch import distributions as D

from limbeck.core.delta import Delta
from limbeck.core.divergence import cross_entropy, kl, nll
from limbeck.errors import DivergenceError
from tests.core.divergence.families import FAMILIES, SHAPE, by_rows, mvn, normal, tensors


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


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_temperature_divides_logits_and_its_square_multiplies_the_divergence(temperature):
    a, b = tensors(0, 2, (4, 5))
    soft_p, soft_q = torch.softmax(a / temperature, -1), torch.softmax(b / temperature, -1)
    expected = temperature**2 * (soft_p * (soft_p / soft_q).log()).sum(-1)
    for family in (D.Categorical, D.OneHotCategorical):
        torch.testing.assert_close(kl(family(logits=a), family(logits=b), temperature=temperature), expected)
        p, q = (family(logits=side.view(2, 2, 5)) for side in (a, b))  # two variables a row
        torch.testing.assert_close(kl(p, q, temperature=temperature), expected.view(2, 2).sum(1))
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
def test_bernoulli_kl_is_accurate_for_extreme_logits(scale):
    a, b = (scale * t for t in tensors(0, 2))
    p, q = D.Bernoulli(logits=a), D.Bernoulli(logits=b)
    log1m = torch.nn.functional.logsigmoid
    expected = p.probs * (log1m(a) - log1m(b)) + torch.sigmoid(-a) * (log1m(-a) - log1m(-b))
    torch.testing.assert_close(kl(p, q), by_rows(expected), rtol=1e-8, atol=1e-10)


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


def test_cross_entropy_without_an_entropy_is_refused():
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


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.bfloat16])
def test_bits_may_be_of_any_type(dtype):
    bits, q = torch.tensor([[0, 1, 1], [1, 0, 1]]), D.Bernoulli(logits=torch.randn(2, 3))
    expected = -q.log_prob(bits.float()).sum(1)
    torch.testing.assert_close(nll(Delta(bits.to(dtype)), q), expected)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("family", [D.Categorical, D.OneHotCategorical, D.Bernoulli])
def test_gradients_of_discrete_kl_are_right(family, temperature):
    parameters = [t.requires_grad_() for t in tensors(0, 2)]
    assert torch.autograd.gradcheck(
        lambda a, b: kl(family(logits=a), family(logits=b), temperature=temperature), parameters
    )


def test_numbers_of_categories_must_agree():
    with pytest.raises(DivergenceError, match=r"3 categories.*\(4, 3\).*5.*\(4, 5\)"):
        kl(D.Categorical(torch.ones(4, 3)), D.Categorical(torch.ones(4, 5)))
    with pytest.raises(DivergenceError, match="3 categories"):
        kl(D.Categorical(torch.ones(4, 3)), D.Categorical(torch.ones(4, 5)), temperature=2.0)


def test_kl_without_a_closed_form_names_both_and_the_way_out():
    with pytest.raises(DivergenceError, match=r"KL\(StudentT \|\| Normal\).*kl_monte_carlo"):
        kl(D.StudentT(torch.full(SHAPE, 5.0)), D.Normal(torch.zeros(SHAPE), 1.0))
    zero = Delta(torch.zeros(SHAPE))
    with pytest.raises(DivergenceError, match=r"divergence\.lp"):
        kl(zero, zero)
    law = D.Normal(torch.zeros(SHAPE), 1.0)
    for sides in ((zero, law), (law, zero)):
        with pytest.raises(DivergenceError, match="nll"):
            kl(*sides)


def test_binomials_next_to_certainty_have_a_finite_kl_and_of_other_counts_none():
    """A float32 logit of 18 is a probability that rounds to 1, whose log(1 - q) torch's own formula takes."""
    p, q = (D.Binomial(1000, logits=torch.tensor([logit])) for logit in (14.0, 18.0))
    exact = kl(*(D.Binomial(1000, logits=torch.tensor([logit]).double()) for logit in (14.0, 18.0)))
    assert not torch.isfinite(D.kl_divergence(p, q)).all()
    assert torch.allclose(kl(p, q).double(), exact, atol=1000 * 4e-6)
    with pytest.raises(DivergenceError, match="different numbers of trials"):
        kl(p, D.Binomial(999, logits=torch.tensor([18.0])))
    one, other = (D.Binomial(torch.tensor([2.0, count]), torch.full((2,), 0.5)) for count in (3.0, 4.0))
    with pytest.raises(DivergenceError, match="different numbers of trials"):
        kl(one, other)


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
