"""value = g(parameters, noise): right marginals, monotone, differentiable, for every supported law."""

import math

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions as D

from limbeck.core.delta import Delta
from limbeck.core.reparam import Law, Rule, convert, is_discrete, law, noise_like, push, register, temper, unregister
from limbeck.errors import ReparameterizationError


def logistic(loc, scale):
    base = D.Uniform(torch.zeros_like(loc), torch.ones_like(loc))
    return D.TransformedDistribution(base, [D.SigmoidTransform().inv, D.AffineTransform(loc, scale)])


def decreasing(loc, scale):
    return D.TransformedDistribution(D.Normal(loc, scale), [D.AffineTransform(0.5, -2.0), D.ExpTransform()])


# name -> (constructor, parameters of one element, frozen scipy law)
CONTINUOUS = {
    "Normal": (D.Normal, (0.3, 1.7), scipy.stats.norm(0.3, 1.7)),
    "LogNormal": (D.LogNormal, (0.3, 0.7), scipy.stats.lognorm(0.7, scale=math.exp(0.3))),
    "Laplace": (D.Laplace, (0.3, 1.7), scipy.stats.laplace(0.3, 1.7)),
    "Logistic": (logistic, (0.3, 1.7), scipy.stats.logistic(0.3, 1.7)),
    "Uniform": (D.Uniform, (-0.5, 2.0), scipy.stats.uniform(-0.5, 2.5)),
    "Gumbel": (D.Gumbel, (0.3, 1.7), scipy.stats.gumbel_r(0.3, 1.7)),
    "Exponential": (D.Exponential, (2.5,), scipy.stats.expon(scale=0.4)),
    "StudentT": (D.StudentT, (3.5, 0.3, 1.7), scipy.stats.t(3.5, 0.3, 1.7)),
    "Cauchy": (D.Cauchy, (0.3, 1.7), scipy.stats.cauchy(0.3, 1.7)),
    "HalfNormal": (D.HalfNormal, (1.7,), scipy.stats.halfnorm(scale=1.7)),
    "HalfCauchy": (D.HalfCauchy, (1.7,), scipy.stats.halfcauchy(scale=1.7)),
    "Weibull": (D.Weibull, (1.7, 2.2), scipy.stats.weibull_min(2.2, scale=1.7)),
    "Pareto": (D.Pareto, (1.7, 2.2), scipy.stats.pareto(2.2, scale=1.7)),
    "Kumaraswamy": (D.Kumaraswamy, (1.7, 1.0), scipy.stats.beta(1.7, 1.0)),
    "ContinuousBernoulli": (D.ContinuousBernoulli, (0.2,), scipy.stats.truncexpon(math.log(4), scale=1 / math.log(4))),
    "LogitRelaxedBernoulli": (
        lambda logits: D.relaxed_bernoulli.LogitRelaxedBernoulli(torch.tensor(0.5).to(logits), logits=logits),
        (0.6,),
        scipy.stats.logistic(1.2, 2.0),
    ),
    "decreasing transform": (decreasing, (0.3, 0.4), scipy.stats.lognorm(0.8, scale=math.exp(-0.1))),
}
DISCRETE = {
    "Bernoulli": (D.Bernoulli, (0.3,), scipy.stats.bernoulli(0.3)),
    "Binomial": (lambda p: D.Binomial(7, p), (0.3,), scipy.stats.binom(7, 0.3)),
    "Poisson": (D.Poisson, (3.3,), scipy.stats.poisson(3.3)),
    "Poisson, rare": (D.Poisson, (0.05,), scipy.stats.poisson(0.05)),
    "Geometric": (D.Geometric, (0.3,), scipy.stats.geom(0.3, loc=-1)),
}
SCALAR = {**CONTINUOUS, **DISCRETE}


def build(name, shape, dtype=torch.float64, requires_grad=False):
    constructor, parameters, reference = SCALAR[name]
    tensors = [torch.full(shape, value, dtype=dtype, requires_grad=requires_grad) for value in parameters]
    return constructor(*tensors), tensors, reference


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------------------------------- marginals


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_marginal(name):
    distribution, _, reference = build(name, (20_000,))
    value = push(distribution, noise_like(distribution, generator()))
    assert scipy.stats.kstest(value.numpy(), reference.cdf).pvalue > 0.01


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_marginal_is_exact(name):
    """Evenly spaced noise reproduces the probabilities to the spacing: a sharper test than chi squared."""
    points = 40_000
    distribution, _, reference = build(name, (points,))
    u = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    value = push(distribution, u)
    for k in range(int(value.max()) + 2):
        assert abs((value == k).double().mean().item() - reference.pmf(k)) <= 1.01 / points


@pytest.mark.parametrize("family", [D.Categorical, D.OneHotCategorical, D.OneHotCategoricalStraightThrough])
def test_categorical_marginal(family):
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
def test_multivariate_normal_marginal(family):
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


def mixture(shape):
    weights = torch.tensor([0.2, 0.5, 0.3]).double().expand(*shape, 3)
    loc = torch.tensor([-2.0, 0.0, 4.0]).double().expand(*shape, 3)
    return D.MixtureSameFamily(D.Categorical(weights), D.Normal(loc, torch.tensor([0.5, 1.0, 2.0]).double()))


def test_mixture_marginal():
    distribution = mixture((20_000,))
    value = push(distribution, noise_like(distribution, generator()))
    cdf = lambda x: sum(  # noqa: E731
        w * scipy.stats.norm.cdf(x, m, s) for w, m, s in [(0.2, -2, 0.5), (0.5, 0, 1), (0.3, 4, 2)]
    )
    assert scipy.stats.kstest(value.numpy(), cdf).pvalue > 0.01
    assert law(distribution) is Law.CUSTOM
    assert not is_discrete(distribution)
    rates = torch.ones(5, 3)
    assert is_discrete(D.MixtureSameFamily(D.Categorical(rates), D.Poisson(rates)))


def test_mixture_of_categoricals():
    logits = torch.tensor([[0.0, -torch.inf, -torch.inf], [-torch.inf, 0.0, 0.0]]).double().expand(4000, 2, 3)
    distribution = D.MixtureSameFamily(
        D.Categorical(torch.tensor([0.2, 0.8]).expand(4000, 2)), D.Categorical(logits=logits)
    )
    value = push(distribution, noise_like(distribution, generator()))
    assert torch.bincount(value, minlength=3).div(4000).tolist() == pytest.approx([0.2, 0.4, 0.4], abs=0.03)


@pytest.mark.parametrize("name", [*SCALAR, "mixture"])
def test_push_leaves_the_random_state_alone(name):
    distribution = mixture((3,)) if name == "mixture" else build(name, (3,))[0]
    noise = noise_like(distribution)
    state = torch.get_rng_state()
    push(distribution, noise)
    assert torch.equal(torch.get_rng_state(), state)


def test_mixture_of_vectors_takes_one_component_at_a_time():
    loc = torch.tensor([[-9.0, -9.0], [9.0, 9.0]]).double().expand(500, 2, 2).clone().requires_grad_()
    components = D.MultivariateNormal(loc, torch.eye(2).double())
    distribution = D.MixtureSameFamily(D.Categorical(torch.ones(500, 2).double()), components)
    noise = noise_like(distribution, generator())
    assert noise.shape == (500, 2, 3)
    value = push(distribution, noise)
    assert value.shape == (500, 2)
    assert torch.equal(value[:, 0] > 0, value[:, 1] > 0)
    first = noise[:, 0, 0] > noise[:, 1, 0]
    expected = torch.where(first.unsqueeze(1), noise[:, 0, 1:] - 9, noise[:, 1, 1:] + 9)
    torch.testing.assert_close(value, expected)
    value.sum().backward()
    assert torch.equal(loc.grad[:, 0, 0], first.double())


# ------------------------------------------------------------------------------------- the discrete inverse CDFs


@pytest.mark.parametrize("rate", [1e-3, 0.5, 7.0, 300.0, 2e4])
def test_poisson_is_the_inverse_cdf(rate):
    u = noise_like(D.Uniform(torch.zeros(200).double(), 1.0), generator())
    u = torch.cat([u, torch.tensor([1e-15, 1 - 2**-53]).double()])
    value = push(D.Poisson(torch.full_like(u, rate)), u)
    k = value.numpy()
    # Defining inequalities rather than scipy's ppf, and with room for the rounding of either CDF.
    assert (scipy.stats.poisson.cdf(k, rate) >= u.numpy() - 1e-12).all()
    assert (scipy.stats.poisson.cdf(k - 1, rate) < u.numpy() + 1e-12).all()


def test_poisson_edges():
    u = torch.tensor([0.5, 0.5, 0.5])
    rates = D.Poisson(torch.tensor([0.0, torch.nan, torch.inf]), validate_args=False)
    value = push(rates, u)
    assert value[0] == 0
    assert value[1:].isnan().all()
    assert push(D.Poisson(torch.ones(0)), torch.ones(0)).shape == (0,)


def test_binomial_counts_may_vary_and_be_large():
    counts = torch.tensor([0.0, 1.0, 10.0, 255.0, 3000.0]).double()
    u = (torch.arange(200).double().unsqueeze(-1) + 0.5) / 200
    for p in (1e-3, 0.4, 0.999):
        value = push(D.Binomial(counts, torch.full((5,), p).double()), u)
        assert value.shape == (200, 5)
        k, n = value.numpy(), counts.numpy()
        assert (scipy.stats.binom.cdf(k, n, p) >= u.numpy() - 1e-10).all()
        assert (scipy.stats.binom.cdf(k - 1, n, p) < u.numpy() + 1e-10).all()


def test_binomial_edges():
    u = torch.tensor([1e-9, 0.5, 1 - 2**-24])
    assert torch.equal(
        push(D.Binomial(9, logits=torch.full((3,), torch.inf), validate_args=False), u), torch.full((3,), 9.0)
    )
    assert torch.equal(push(D.Binomial(9, logits=torch.full((3,), -torch.inf), validate_args=False), u), torch.zeros(3))
    assert push(D.Binomial(9, logits=torch.full((3,), torch.nan), validate_args=False), u).isnan().all()
    assert push(D.Binomial(9, torch.full((3,), 0.3)), u).max() <= 9
    assert push(D.Binomial(9, torch.ones(0, 2)), torch.ones(0, 2)).shape == (0, 2)


# ----------------------------------------------------------------------------------------------------- monotony


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


def test_a_transform_with_signs_of_both_kinds_is_increasing_everywhere():
    scale = torch.tensor([2.0, -3.0], dtype=torch.float64)
    for base in (D.Normal(torch.zeros(2).double(), 1.0), D.Laplace(torch.zeros(2).double(), 1.0)):
        distribution = D.TransformedDistribution(base, [D.AffineTransform(1.0, scale)])
        low, high = torch.full((2,), 0.1).double(), torch.full((2,), 0.3).double()
        assert (push(distribution, high) > push(distribution, low)).all()


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(set(SCALAR) - {"Bernoulli"})),
    st.floats(1e-6, 1 - 1e-6),
    st.floats(1e-6, 1 - 1e-6),
)
def test_monotone_at_random_pairs(name, a, b):
    distribution, _, _ = build(name, ())
    noise = convert(torch.tensor([min(a, b), max(a, b)]).double(), Law.UNIFORM, law(distribution))
    low, high = push(distribution, noise[0]), push(distribution, noise[1])
    assert high >= low - 1e-12 * high.abs()


def test_bernoulli_is_one_below_its_probability():
    assert push(D.Bernoulli(torch.tensor([0.3, 0.3])), torch.tensor([0.29, 0.31])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("name", "tail"), [("Laplace", 1e-30), ("Cauchy", 1e-30), ("Gumbel", 1e-30)])
def test_left_tails_are_accurate_in_float32(name, tail):
    distribution, _, reference = build(name, (), torch.float32)
    assert push(distribution, torch.tensor(tail)).item() == pytest.approx(reference.ppf(tail), rel=1e-5)


# ---------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("name", CONTINUOUS)
def test_gradients_of_continuous_laws(name):
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


def test_gradient_of_multivariate_normal():
    loc = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    tril = (torch.randn(2, 3, 3, dtype=torch.float64).tril(-1) + 2 * torch.eye(3).double()).requires_grad_()
    noise = torch.randn(2, 3, dtype=torch.float64)
    f = lambda m, s: push(D.MultivariateNormal(m, scale_tril=s.tril()), noise)  # noqa: E731
    assert torch.autograd.gradcheck(f, (loc, tril))


def test_student_t_gradient_in_the_noise_too():
    df, u = torch.tensor([3.0, 8.0]).double(), torch.tensor([0.1, 0.9]).double()
    parameters = (df.requires_grad_(), u.requires_grad_())
    assert torch.autograd.gradcheck(lambda v, n: push(D.StudentT(v), n), parameters, atol=1e-6)


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_values_carry_no_gradient(name):
    distribution, _, _ = build(name, (5,), requires_grad=True)
    value = push(distribution, noise_like(distribution))
    assert not value.requires_grad
    assert value.dtype == torch.float64


def test_categoricals_carry_no_gradient_but_straight_through_does():
    logits = torch.randn(4, 3, requires_grad=True)
    for family in (D.Categorical, D.OneHotCategorical):
        assert not push(family(logits=logits), torch.zeros(4, 3)).requires_grad
    value = push(D.OneHotCategoricalStraightThrough(logits=logits), torch.zeros(4, 3))
    value[:, 0].sum().backward()
    assert logits.grad.abs().sum() > 0


# ----------------------------------------------------------------------------------------------- noise and dtypes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SCALAR)
def test_dtype_shape_and_reproducibility(name, dtype):
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_uniform_noise_is_strictly_inside(dtype):
    uniform = D.Uniform(torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype), validate_args=False)
    noise = noise_like(uniform.expand((2_000_000,)), generator())
    assert noise.dtype == dtype
    assert noise.min() > 0
    assert noise.max() < 1


# name -> (constructor, parameter, least value of a rare event, its probability); exact in half precision
RARE = {
    "Bernoulli": (lambda logits: D.Bernoulli(logits=logits), -6.0, 1, 1 / (1 + math.exp(6))),
    "Binomial": (lambda logits: D.Binomial(1, logits=logits), -6.0, 1, 1 / (1 + math.exp(6))),
    "Poisson": (D.Poisson, 2**-9, 1, -math.expm1(-(2**-9))),
    "Geometric": (D.Geometric, 0.5, 9, 2**-9),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", RARE)
def test_rare_events_are_as_rare_in_half_precision(name, dtype):
    constructor, parameter, least, probability = RARE[name]
    draws = 200_000
    distribution = constructor(torch.full((draws,), parameter, dtype=dtype))
    value = push(distribution, noise_like(distribution, generator()))
    assert value.dtype == dtype
    # A few of bfloat16's roundings of the probability itself, and five standard deviations.
    allowed = 0.01 * probability + 5 * math.sqrt(probability / draws)
    assert abs((value >= least).double().mean().item() - probability) < allowed


@pytest.mark.parametrize("name", [name for name in CONTINUOUS if name not in ("Normal", "LogNormal")])
def test_a_continuous_law_in_half_precision_may_take_the_finer_noise_of_a_discrete_one(name):
    distribution, _, _ = build(name, (6,), torch.bfloat16)
    if law(distribution) is Law.UNIFORM:
        assert push(distribution, torch.linspace(0.1, 0.9, 6)).dtype == torch.bfloat16


def test_global_seed_is_used_without_a_generator():
    distribution = D.Normal(torch.zeros(5), 1.0)
    torch.manual_seed(7)
    first = noise_like(distribution)
    torch.manual_seed(7)
    assert torch.equal(first, noise_like(distribution))


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (D.Normal(torch.zeros(2), 1.0), Law.NORMAL),
        (D.LogNormal(torch.zeros(2), 1.0), Law.NORMAL),
        (D.MultivariateNormal(torch.zeros(2), torch.eye(2)), Law.NORMAL),
        (D.Bernoulli(torch.full((2,), 0.5)), Law.REVERSED),
        (D.Categorical(torch.ones(2)), Law.GUMBEL),
        (D.Independent(D.OneHotCategorical(torch.ones(3, 2)), 1), Law.GUMBEL),
        (D.Independent(D.Independent(D.Normal(torch.zeros(2, 3), 1.0), 1), 1), Law.NORMAL),
        (logistic(torch.zeros(2), torch.ones(2)), Law.UNIFORM),
        (Delta(torch.zeros(2)), Law.NONE),
    ],
    ids=lambda x: type(x).__name__,
)
def test_laws(distribution, expected):
    assert law(distribution) is expected


def test_delta_has_empty_noise():
    value = torch.randn(4, 3, requires_grad=True)
    noise = noise_like(Delta(value, 1))
    assert noise.shape == (4, 0)
    assert push(Delta(value, 1), noise) is value


def test_noise_of_wrappers_has_the_shape_of_the_value():
    inner = D.Normal(torch.zeros(4, 3, 2), 1.0)
    wrapped = D.TransformedDistribution(D.Independent(inner, 2), [D.ExpTransform()])
    noise = noise_like(wrapped, generator())
    assert noise.shape == (4, 3, 2)
    torch.testing.assert_close(push(wrapped, noise), noise.exp())


def test_noise_with_sample_dimensions_broadcasts():
    for name in SCALAR:
        distribution, _, _ = build(name, (3,))
        noise = torch.rand(5, 3, dtype=torch.float64).clamp(0.01, 0.99)
        assert push(distribution, noise).shape == (5, 3), name


def test_vector_transforms_keep_the_noise_as_it_is():
    distribution = D.LogisticNormal(torch.zeros(4, 2).double(), torch.ones(4, 2).double())
    noise = noise_like(distribution, generator())
    value = push(distribution, noise)
    assert noise.shape == (4, 2)
    assert value.shape == (4, 3)
    torch.testing.assert_close(value, D.StickBreakingTransform()(noise))


# ----------------------------------------------------------------------------------------------- discrete or not


@pytest.mark.parametrize("name", SCALAR)
def test_is_discrete(name):
    distribution, _, _ = build(name, (2, 3))
    assert is_discrete(distribution) == (name in DISCRETE)
    assert is_discrete(D.Independent(distribution, 1)) == (name in DISCRETE)


def test_is_discrete_of_categoricals_and_deltas():
    assert is_discrete(D.Categorical(torch.ones(2)))
    assert is_discrete(D.OneHotCategorical(torch.ones(2)))
    assert not is_discrete(Delta(torch.zeros(2)))
    assert not is_discrete(D.Independent(Delta(torch.zeros(2, 3)), 1))


# ------------------------------------------------------------------------------------------- convert and temper


@pytest.mark.parametrize(("dtype", "lowest"), [(torch.float32, -12.5), (torch.float64, -36.0)])
def test_normal_and_uniform_round_trip_to_the_tail(dtype, lowest):
    z = torch.linspace(lowest, 3.0, 400, dtype=dtype)
    u = convert(z, Law.NORMAL, Law.UNIFORM)
    reference = scipy.stats.norm.cdf(z.double().numpy())
    torch.testing.assert_close(
        u.double(), torch.as_tensor(reference), rtol=2e-4 if dtype is torch.float32 else 1e-11, atol=0
    )
    back = convert(u, Law.UNIFORM, Law.NORMAL)
    torch.testing.assert_close(back, z, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_converted_noise_stays_inside_and_finite(dtype):
    z = torch.tensor([-100.0, -40.0, 0.0, 9.0, 100.0], dtype=dtype)
    u = convert(z, Law.NORMAL, Law.UNIFORM)
    assert ((u > 0) & (u < 1)).all()
    assert convert(u, Law.UNIFORM, Law.NORMAL).isfinite().all()


def test_smallest_uniform_noise_converts_to_a_finite_normal():
    for dtype in (torch.float32, torch.float64):
        info = torch.finfo(dtype)
        u = torch.tensor([info.eps / 4, 1 - info.eps / 2], dtype=dtype)
        z = convert(u, Law.UNIFORM, Law.NORMAL)
        reference = torch.as_tensor(scipy.stats.norm.ppf(u.double().numpy()), dtype=dtype)
        torch.testing.assert_close(z, reference, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("other", [Law.UNIFORM, Law.NORMAL, Law.GUMBEL])
def test_reversed_noise_is_the_uniform_read_from_the_other_end(other, dtype):
    u = torch.tensor([1e-6, 0.2, 0.5, 0.9, 0.9999], dtype=dtype)
    forth = convert(u, Law.REVERSED, other)
    torch.testing.assert_close(forth, convert(1.0 - u, Law.UNIFORM, other), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(convert(forth, other, Law.REVERSED), u, rtol=1e-2, atol=1e-6)
    assert (forth.diff() < 0).all()


def test_convert_is_the_identity_between_equal_laws_and_refuses_the_rest():
    noise = torch.randn(3)
    for same in Law:
        assert convert(noise, same, same) is noise
    with pytest.raises(ReparameterizationError, match="CUSTOM noise cannot be turned into NORMAL"):
        convert(noise, Law.CUSTOM, Law.NORMAL)
    with pytest.raises(ReparameterizationError, match="UNIFORM"):
        convert(noise, Law.UNIFORM, Law.NONE)


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-12, 0.999), st.floats(0.2, 2.0))
def test_temper_commutes_with_convert_and_inverts(u, temperature):
    noise = torch.tensor([u], dtype=torch.float64)
    tempered = temper(noise, Law.UNIFORM, temperature)
    z = convert(noise, Law.UNIFORM, Law.NORMAL)
    torch.testing.assert_close(convert(tempered, Law.UNIFORM, Law.NORMAL), z * temperature, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(temper(tempered, Law.UNIFORM, 1 / temperature), noise, rtol=1e-4, atol=1e-12)


def test_temper_scales_normals_and_divides_logits():
    z = torch.randn(4, 3, dtype=torch.float64)
    wide = push(D.Normal(torch.ones(4, 3).double(), 2.0), temper(z, Law.NORMAL, 0.3))
    torch.testing.assert_close(wide, push(D.Normal(torch.ones(4, 3).double(), 0.6), z))
    logits = torch.randn(500, 5)
    gumbel = noise_like(D.Categorical(logits=logits), generator())
    cold = push(D.Categorical(logits=logits), temper(gumbel, Law.GUMBEL, 0.4))
    assert torch.equal(cold, push(D.Categorical(logits=logits / 0.4), gumbel))


def test_temper_limits():
    u, z = torch.tensor([0.2, 0.9]), torch.tensor([0.2, -0.9])
    assert temper(u, Law.UNIFORM, 1.0) is u
    assert torch.equal(temper(u, Law.UNIFORM, 0.0), torch.tensor([0.5, 0.5]))
    assert torch.equal(temper(z, Law.NORMAL, 0.0).abs(), torch.zeros(2))
    empty = torch.empty(4, 0)
    assert temper(empty, Law.NONE, 0.5) is empty
    with pytest.raises(ReparameterizationError, match="at least 0"):
        temper(u, Law.UNIFORM, -1.0)
    with pytest.raises(ReparameterizationError, match="at least 0"):
        temper(u, Law.UNIFORM, math.nan)
    with pytest.raises(ReparameterizationError, match="CUSTOM"):
        temper(u, Law.CUSTOM, 0.5)


# ---------------------------------------------------------------------------------------------------- coupling


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


@pytest.mark.parametrize("families", [(D.Normal, D.Laplace), (D.Laplace, D.Normal), (D.Gumbel, D.Cauchy)])
def test_mixtures_of_two_families_can_share_noise(families):
    teacher, student = (
        D.MixtureSameFamily(D.Categorical(torch.ones(500, 2)), family(torch.zeros(500, 2), torch.ones(500, 2)))
        for family in families
    )
    values = push(student, noise_like(teacher, generator()))
    reference = families[1](torch.tensor(0.0), torch.tensor(1.0))
    assert scipy.stats.kstest(values.numpy(), lambda v: reference.cdf(torch.as_tensor(v)).numpy()).pvalue > 1e-3


# ---------------------------------------------------------------------------------------------------- registry


@pytest.mark.parametrize(
    "distribution",
    [
        D.Gamma(torch.ones(2), 1.0),
        D.VonMises(torch.zeros(2), torch.ones(2)),
        D.Independent(D.Beta(torch.ones(2), 1.0), 1),
    ],
    ids=["Gamma", "VonMises", "Independent Beta"],
)
def test_what_cannot_be_done_says_so(distribution):
    inner = getattr(distribution, "base_dist", distribution)
    with pytest.raises(ReparameterizationError, match=rf"{type(inner).__name__} cannot .*limbeck\.reparam\.register\("):
        noise_like(distribution)
    with pytest.raises(ReparameterizationError, match="register"):
        push(distribution, torch.zeros(2))
    with pytest.raises(ReparameterizationError, match="register"):
        law(distribution)


def test_other_objects_are_refused():
    with pytest.raises(ReparameterizationError, match="torch distribution"):
        push(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ReparameterizationError, match="subclass"):
        register(int, push=lambda d, u: u)


class Triangular(D.Distribution):
    arg_constraints = {"width": D.constraints.positive}  # noqa: RUF012

    def __init__(self, width):
        self.width = width
        super().__init__(width.shape)


class NarrowTriangular(Triangular):
    pass


def test_register_and_unregister():
    teacher = NarrowTriangular(torch.tensor([2.0, 4.0], dtype=torch.float64))
    with pytest.raises(ReparameterizationError, match="NarrowTriangular"):
        law(teacher)
    try:
        register(Triangular, push=lambda d, u: d.width * u.sqrt(), law=Law.UNIFORM)
        assert law(teacher) is Law.UNIFORM  # through the parent class
        noise = noise_like(teacher, generator())
        assert noise.dtype == torch.float64
        torch.testing.assert_close(push(teacher, noise), teacher.width * noise.sqrt())
        register(NarrowTriangular, push=lambda d, z: d.width + z, law=lambda d: Law.NORMAL)
        assert law(teacher) is Law.NORMAL  # the nearer rule wins
        assert push(teacher, torch.zeros(2).double()).tolist() == [2.0, 4.0]
    finally:
        unregister(NarrowTriangular)
        unregister(Triangular)
    with pytest.raises(ReparameterizationError, match="NarrowTriangular"):
        push(teacher, torch.zeros(2))


def test_register_may_replace_a_built_in_and_give_it_back():
    distribution, noise = D.Normal(torch.zeros(2), 1.0), torch.ones(2)
    before = push(distribution, noise)
    try:
        register(D.Normal, push=lambda d, u: u * 0 + 5, law=Law.UNIFORM)
        assert push(distribution, noise).tolist() == [5.0, 5.0]
    finally:
        unregister(D.Normal)
    assert torch.equal(push(distribution, noise), before)


def test_a_custom_law_needs_its_own_noise():
    with pytest.raises(ReparameterizationError, match="noise"):
        register(Triangular, push=lambda d, u: u, law=Law.CUSTOM)
    try:
        register(
            Triangular,
            push=lambda d, n: d.width * n.amax(-1),
            law=Law.CUSTOM,
            noise=lambda d, g: torch.rand(2, 2, generator=g),
        )
        teacher = Triangular(torch.ones(2))
        assert noise_like(teacher, generator()).shape == (2, 2)
        assert law(teacher) is Law.CUSTOM
    finally:
        unregister(Triangular)


def test_anything_with_an_inverse_cdf_needs_no_rule():
    class Arcsine(D.Distribution):
        arg_constraints = {}  # noqa: RUF012

        def icdf(self, value):
            return torch.sin(math.pi / 2 * value) ** 2

    distribution = Arcsine(torch.Size([3]), validate_args=False)
    assert law(distribution) is Law.UNIFORM
    assert push(distribution, torch.full((3,), 0.5)).tolist() == pytest.approx([0.5] * 3)


def test_subclasses_are_drawn_as_their_parent():
    class Clipped(D.Normal):
        pass

    noise = torch.randn(3)
    torch.testing.assert_close(push(Clipped(torch.ones(3), 2.0), noise), 1 + 2 * noise)


class Doubled(D.Normal):
    """A law whose rule is written on it, rather than registered."""

    noise_rule = Rule(Law.NORMAL, lambda d, noise: d.loc + 2 * d.scale * noise)


class Descendant(Doubled):
    """A subclass is drawn as its parent."""


@pytest.mark.parametrize("kind", [Doubled, Descendant])
def test_a_law_may_bring_its_own_rule(kind):
    torch.manual_seed(0)
    given = kind(torch.full((20_000,), 3.0), 0.5)
    noise = noise_like(given)
    assert law(given) is Law.NORMAL
    assert torch.equal(push(given, noise), 3.0 + noise)
    assert push(given, noise).std() == pytest.approx(1.0, abs=0.02)
