"""value = g(parameters, noise): right marginals, monotone, differentiable, for every supported law."""

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions as D

from limbeck.core.reparam import Law, convert, law, noise_like, push
from tests.core.reparam.known_laws import CONTINUOUS, SCALAR, build, generator, mixture


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_draws_have_their_law(name):
    distribution, _, reference = build(name, (20_000,))
    value = push(distribution, noise_like(distribution, generator()))
    assert scipy.stats.kstest(value.numpy(), reference.cdf).pvalue > 0.01


@pytest.mark.parametrize("family", [D.Categorical, D.OneHotCategorical, D.OneHotCategoricalStraightThrough])
def test_categories_are_drawn_as_often_as_they_are_probable(family):
    probs = torch.tensor([0.1, 0.2, 0.0, 0.7], dtype=torch.float64)
    distribution = family(probs=probs.expand(50_000, 4))
    noise = noise_like(distribution, generator())
    assert noise.shape == (50_000, 4)
    value = push(distribution, noise)
    assert value.shape == distribution.sample().shape
    assert value.dtype == distribution.sample().dtype
    counts = torch.bincount(value, minlength=4) if value.dim() == 1 else value.sum(0)
    assert counts[2] == 0
    assert scipy.stats.chisquare(counts[[0, 1, 3]].numpy(), 50_000 * probs[[0, 1, 3]].numpy()).pvalue > 0.01


@pytest.mark.parametrize("family", [D.MultivariateNormal, D.LowRankMultivariateNormal])
def test_multivariate_normal_draws_have_mean_and_covariance(family):
    loc = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    if family is D.MultivariateNormal:
        distribution = family(loc, torch.tensor([[2.0, 0.3, 0], [0.3, 1.0, -0.4], [0, -0.4, 0.5]]).double())
    else:
        distribution = family(
            loc, torch.tensor([[1.0], [0.5], [-2.0]]).double(), torch.tensor([0.3, 0.2, 0.1]).double()
        )
    batch = distribution.expand((50_000,))
    value = push(batch, noise_like(batch, generator()))
    torch.testing.assert_close(value.mean(0), loc, atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(value.T), distribution.covariance_matrix, atol=0.06, rtol=0)


def test_relaxed_one_hot_is_torchs_formula():
    logits = torch.randn(5, 3, dtype=torch.float64)
    distribution = D.RelaxedOneHotCategorical(torch.tensor(0.7).double(), logits=logits)
    noise = noise_like(distribution, generator())
    expected = torch.softmax((torch.log_softmax(logits, -1) + noise) / 0.7, -1)
    torch.testing.assert_close(push(distribution, noise), expected)
    assert law(distribution) is Law.GUMBEL


@pytest.mark.parametrize("name", [*SCALAR, "mixture"])
def test_push_leaves_the_random_state_alone(name):
    distribution = mixture((3,)) if name == "mixture" else build(name, (3,))[0]
    noise = noise_like(distribution)
    state = torch.get_rng_state()
    push(distribution, noise)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SCALAR)
def test_scalar_laws_are_increasing_and_finite_over_the_whole_noise(name, dtype):
    distribution, _, _ = build(name, (4000,), dtype)
    info = torch.finfo(dtype)
    if law(distribution) is Law.NORMAL:
        noise = torch.linspace(-6, 6, 4000, dtype=dtype)
    else:
        noise = torch.linspace(0, 1, 4000, dtype=dtype)
        noise[:3] = torch.tensor([info.eps / 4, info.eps / 2, info.eps * 3])
        noise[-2:] = torch.tensor([1 - info.eps, 1 - info.eps / 2], dtype=dtype)
    value = push(distribution, noise)
    assert value.isfinite().all()
    steps = value.diff()
    if name == "Bernoulli":
        steps = -steps  # the documented convention: one where the noise is below p
    tolerance = 20 * info.eps * value.abs()[1:].clamp(min=1)
    assert (steps >= -tolerance).all()
    assert steps.max() > 0


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(set(SCALAR) - {"Bernoulli"})),
    st.floats(1e-6, 1 - 1e-6),
    st.floats(1e-6, 1 - 1e-6),
)
def test_values_rise_with_the_noise_at_random_pairs(name, a, b):
    distribution, _, _ = build(name, ())
    noise = convert(torch.tensor([min(a, b), max(a, b)]).double(), Law.UNIFORM, law(distribution))
    low, high = push(distribution, noise[0]), push(distribution, noise[1])
    assert high >= low - 1e-12 * high.abs()


def test_bernoulli_is_one_below_its_probability():
    assert push(D.Bernoulli(torch.tensor([0.3, 0.3])), torch.tensor([0.29, 0.31])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("name", "tail"), [("Laplace", 1e-30), ("Cauchy", 1e-30), ("Gumbel", 1e-30), ("Kumaraswamy", 1e-8)]
)
def test_left_tails_are_accurate_in_float32(name, tail):
    distribution, tensors, reference = build(name, (), torch.float32, requires_grad=True)
    value = push(distribution, torch.tensor(tail))
    assert value.item() == pytest.approx(reference.ppf(tail), rel=1e-5)
    assert all(gradient.isfinite() for gradient in torch.autograd.grad(value, tensors))


@pytest.mark.parametrize("name", CONTINUOUS)
def test_gradients_of_continuous_laws_are_right(name):
    constructor, parameters, _ = CONTINUOUS[name]
    tensors = [torch.tensor([v, v * 1.1]).double().requires_grad_() for v in parameters]
    noise = noise_like(constructor(*tensors), generator(3))
    assert not noise.requires_grad
    # The tolerance of StudentT's df is set by its central difference.
    assert torch.autograd.gradcheck(lambda *t: push(constructor(*t), noise), tensors, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["Normal", "Uniform", "Laplace", "Exponential", "LogNormal", "Cauchy"])
def test_gradients_equal_those_of_rsample(name):
    """dz/dparameter is a function of z alone; at torch's own sample it must be torch's own."""
    distribution, tensors, reference = build(name, (50,), requires_grad=True)
    sample = distribution.rsample()
    theirs = torch.autograd.grad(sample.sum(), tensors)
    u = torch.as_tensor(reference.cdf(sample.detach().numpy()))
    ours = push(distribution, convert(u, Law.UNIFORM, law(distribution)))
    torch.testing.assert_close(ours.detach(), sample.detach(), rtol=1e-6, atol=1e-8)
    for mine, their in zip(torch.autograd.grad(ours.sum(), tensors), theirs):
        torch.testing.assert_close(mine, their, rtol=1e-6, atol=1e-8)


def test_gradients_of_a_multivariate_normal_are_right():
    loc = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    tril = (torch.randn(2, 3, 3, dtype=torch.float64).tril(-1) + 2 * torch.eye(3).double()).requires_grad_()
    noise = torch.randn(2, 3, dtype=torch.float64)
    f = lambda m, s: push(D.MultivariateNormal(m, scale_tril=s.tril()), noise)  # noqa: E731
    assert torch.autograd.gradcheck(f, (loc, tril))


def test_gradients_of_a_student_t_are_right_in_the_noise_too():
    df, u = torch.tensor([3.0, 8.0]).double(), torch.tensor([0.1, 0.9]).double()
    parameters = (df.requires_grad_(), u.requires_grad_())
    assert torch.autograd.gradcheck(lambda v, n: push(D.StudentT(v), n), parameters, atol=1e-6)


def test_categoricals_carry_no_gradient_but_straight_through_does():
    logits = torch.randn(4, 3, requires_grad=True)
    for family in (D.Categorical, D.OneHotCategorical):
        assert not push(family(logits=logits), torch.zeros(4, 3)).requires_grad
    value = push(D.OneHotCategoricalStraightThrough(logits=logits), torch.zeros(4, 3))
    value[:, 0].sum().backward()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SCALAR)
def test_noise_and_value_have_dtype_and_shape_of_the_law_and_one_seed_fixes_them(name, dtype):
    distribution, _, _ = build(name, (6, 2), dtype)
    noise = noise_like(distribution, generator(1))
    assert noise.dtype == dtype
    assert noise.shape == (6, 2)
    assert torch.equal(noise, noise_like(distribution, generator(1)))
    assert not torch.equal(noise, noise_like(distribution, generator(2)))
    value = push(distribution, noise)
    assert value.dtype == dtype
    assert value.shape == (6, 2)
    assert torch.equal(value, push(distribution, noise))


@pytest.mark.parametrize("name", [name for name in CONTINUOUS if name not in ("Normal", "LogNormal")])
def test_a_continuous_law_in_half_precision_may_take_the_finer_noise_of_a_discrete_one(name):
    distribution, _, _ = build(name, (6,), torch.bfloat16)
    if law(distribution) is Law.UNIFORM:
        assert push(distribution, torch.linspace(0.1, 0.9, 6)).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["Laplace", "StudentT", "Gumbel"])
def test_shared_noise_couples_comonotonically(name):
    """With one noise, both sides are sorted alike: the optimal coupling on the line."""
    constructor, parameters, _ = CONTINUOUS[name]
    teacher = constructor(*(torch.full((500,), v).double() for v in parameters))
    student = constructor(*(torch.full((500,), v * 1.5 + 0.1).double() for v in parameters))
    noise = noise_like(teacher, generator())
    assert torch.equal(push(teacher, noise).argsort(), push(student, noise).argsort())


@pytest.mark.parametrize("family", [lambda p: D.Binomial(1, p), D.ContinuousBernoulli, lambda p: D.Normal(p, 1.0),
                                    lambda p: D.RelaxedBernoulli(torch.tensor(0.1).double(), p)])  # fmt: skip
def test_bits_rise_with_what_shares_their_noise(family):
    p = torch.full((2000,), 0.5).double()
    bits, other = D.Bernoulli(p), family(p)
    noise = noise_like(bits, generator())
    shared = push(other, convert(noise, law(bits), law(other)))
    one, zero = shared[push(bits, noise) == 1], shared[push(bits, noise) == 0]
    assert one.min() >= zero.max()
