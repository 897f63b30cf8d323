"""Which rule a law is drawn by: its own, its family's, or one that a user registered."""

import math

import pytest
import scipy.stats
import torch
from torch import distributions as D

from limbeck.core.delta import Delta
from limbeck.core.reparam import Law, Rule, is_discrete, law, noise_like, push, register, unregister
from limbeck.errors import ReparameterizationError
from tests.core.reparam.known_laws import DISCRETE, SCALAR, build, generator, logistic, mixture


def test_a_mixture_has_its_law_and_is_as_discrete_as_its_components():
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


def test_a_mixture_of_categoricals_averages_their_probabilities():
    logits = torch.tensor([[0.0, -torch.inf, -torch.inf], [-torch.inf, 0.0, 0.0]]).double().expand(4000, 2, 3)
    distribution = D.MixtureSameFamily(
        D.Categorical(torch.tensor([0.2, 0.8]).expand(4000, 2)), D.Categorical(logits=logits)
    )
    value = push(distribution, noise_like(distribution, generator()))
    assert torch.bincount(value, minlength=3).div(4000).tolist() == pytest.approx([0.2, 0.4, 0.4], abs=0.03)


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


@pytest.mark.parametrize("shape", [(3,), (1, 3)])
@pytest.mark.parametrize("family", [D.Normal, D.Laplace])
def test_mixtures_may_share_their_weights(shape, family):
    weights, components = torch.tensor([0.2, 0.5, 0.3]), family(torch.randn(4, 3), 1.0)
    shared = D.MixtureSameFamily(D.Categorical(weights.reshape(shape)), components)
    apart = D.MixtureSameFamily(D.Categorical(weights.expand(4, 3)), components)
    noise = noise_like(shared, generator())
    assert torch.equal(noise, noise_like(apart, generator()))
    assert torch.equal(push(shared, noise), push(apart, noise))


@pytest.mark.parametrize("family", [D.Normal, D.Laplace])
def test_a_transform_with_signs_of_both_kinds_is_increasing_everywhere(family):
    scale = torch.tensor([2.0, -3.0], dtype=torch.float64)
    base = family(torch.zeros(2).double(), 1.0)
    distribution = D.TransformedDistribution(base, [D.AffineTransform(1.0, scale)])
    low, high = torch.full((2,), 0.1).double(), torch.full((2,), 0.3).double()
    assert (push(distribution, high) > push(distribution, low)).all()


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
def test_every_law_tells_that_of_its_noise(distribution, expected):
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


@pytest.mark.parametrize("name", SCALAR)
def test_noise_with_sample_dimensions_broadcasts(name):
    distribution, _, _ = build(name, (3,))
    noise = torch.rand(5, 3, dtype=torch.float64).clamp(0.01, 0.99)
    assert push(distribution, noise).shape == (5, 3)


def test_vector_transforms_keep_the_noise_as_it_is():
    distribution = D.LogisticNormal(torch.zeros(4, 2).double(), torch.ones(4, 2).double())
    noise = noise_like(distribution, generator())
    value = push(distribution, noise)
    assert noise.shape == (4, 2)
    assert value.shape == (4, 3)
    torch.testing.assert_close(value, D.StickBreakingTransform()(noise))


@pytest.mark.parametrize("name", SCALAR)
def test_what_is_discrete_is_told(name):
    distribution, _, _ = build(name, (2, 3))
    assert is_discrete(distribution) == (name in DISCRETE)
    assert is_discrete(D.Independent(distribution, 1)) == (name in DISCRETE)


def test_categories_are_discrete_and_point_masses_are_not():
    assert is_discrete(D.Categorical(torch.ones(2)))
    assert is_discrete(D.OneHotCategorical(torch.ones(2)))
    assert not is_discrete(Delta(torch.zeros(2)))
    assert not is_discrete(D.Independent(Delta(torch.zeros(2, 3)), 1))


@pytest.mark.parametrize("families", [(D.Normal, D.Laplace), (D.Laplace, D.Normal), (D.Gumbel, D.Cauchy)])
def test_mixtures_of_two_families_can_share_noise(families):
    teacher, student = (
        D.MixtureSameFamily(D.Categorical(torch.ones(500, 2)), family(torch.zeros(500, 2), torch.ones(500, 2)))
        for family in families
    )
    values = push(student, noise_like(teacher, generator()))
    reference = families[1](torch.tensor(0.0), torch.tensor(1.0))
    assert scipy.stats.kstest(values.numpy(), lambda v: reference.cdf(torch.as_tensor(v)).numpy()).pvalue > 1e-3


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
    for call in (lambda: push(distribution, torch.zeros(2)), lambda: law(distribution)):
        with pytest.raises(ReparameterizationError, match="register"):
            call()


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
