"""Discrete laws: the inverse CDF, its edges, and rare events in half precision."""

import math

import pytest
import scipy.stats
import torch
from torch import distributions as D

from limbeck.core.reparam import noise_like, push
from tests.core.reparam.known_laws import DISCRETE, build, generator


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_marginal_is_exact(name):
    """Evenly spaced noise reproduces the probabilities to the spacing: a sharper test than chi squared."""
    points = 40_000
    distribution, _, reference = build(name, (points,))
    u = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    value = push(distribution, u)
    for k in range(int(value.max()) + 2):
        assert abs((value == k).double().mean().item() - reference.pmf(k)) <= 1.01 / points


@pytest.mark.parametrize("rate", [1e-3, 0.5, 7.0, 300.0, 2e4])
def test_poisson_is_the_inverse_cdf(rate):
    u = noise_like(D.Uniform(torch.zeros(200).double(), 1.0), generator())
    u = torch.cat([u, torch.tensor([1e-15, 1 - 2**-53]).double()])
    value = push(D.Poisson(torch.full_like(u, rate)), u)
    k = value.numpy()
    # Defining inequalities rather than scipy's ppf, and with room for the rounding of either CDF.
    assert (scipy.stats.poisson.cdf(k, rate) >= u.numpy() - 1e-12).all()
    assert (scipy.stats.poisson.cdf(k - 1, rate) < u.numpy() + 1e-12).all()


def test_poisson_of_rate_zero_is_zero_and_of_no_finite_rate_nan():
    u = torch.tensor([0.5, 0.5, 0.5])
    rates = D.Poisson(torch.tensor([0.0, torch.nan, torch.inf]), validate_args=False)
    value = push(rates, u)
    assert value[0] == 0
    assert value[1:].isnan().all()
    assert push(D.Poisson(torch.ones(0)), torch.ones(0)).shape == (0,)


@pytest.mark.parametrize("p", [1e-3, 0.4, 0.999])
def test_binomial_is_the_inverse_cdf_of_any_counts(p):
    counts = torch.tensor([0.0, 1.0, 10.0, 255.0, 3000.0]).double()
    u = (torch.arange(200).double().unsqueeze(-1) + 0.5) / 200
    value = push(D.Binomial(counts, torch.full((5,), p).double()), u)
    assert value.shape == (200, 5)
    k, n = value.numpy(), counts.numpy()
    assert (scipy.stats.binom.cdf(k, n, p) >= u.numpy() - 1e-10).all()
    assert (scipy.stats.binom.cdf(k - 1, n, p) < u.numpy() + 1e-10).all()


def test_binomial_of_certain_bits_is_all_or_none_and_of_unknown_ones_nan():
    u = torch.tensor([1e-9, 0.5, 1 - 2**-24])
    assert torch.equal(
        push(D.Binomial(9, logits=torch.full((3,), torch.inf), validate_args=False), u), torch.full((3,), 9.0)
    )
    assert torch.equal(push(D.Binomial(9, logits=torch.full((3,), -torch.inf), validate_args=False), u), torch.zeros(3))
    assert push(D.Binomial(9, logits=torch.full((3,), torch.nan), validate_args=False), u).isnan().all()
    assert push(D.Binomial(9, torch.full((3,), 0.3)), u).max() <= 9
    assert push(D.Binomial(9, torch.ones(0, 2)), torch.ones(0, 2)).shape == (0, 2)


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_values_carry_no_gradient(name):
    distribution, _, _ = build(name, (5,), requires_grad=True)
    value = push(distribution, noise_like(distribution))
    assert not value.requires_grad
    assert value.dtype == torch.float64


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


@pytest.mark.parametrize("family", [D.Categorical, D.OneHotCategorical, D.OneHotCategoricalStraightThrough])
def test_categories_in_half_precision_are_drawn_as_in_single(family):
    """In half precision two scores are often equal, and the first category would win too often."""
    logits = torch.tensor([[1.0, 0.5, -2.0]]).expand(500, 3)
    half, single = family(logits=logits.bfloat16()), family(logits=logits)
    noise = noise_like(half, generator())
    assert torch.equal(noise, noise_like(single, generator()))
    value = push(half, noise)
    assert value.dtype == half.sample().dtype
    assert (value == push(single, noise)).double().mean() > 0.98  # the logits themselves are rounded


def test_a_mixture_in_half_precision_has_values_in_half_precision():
    weights = torch.zeros(6, 2, dtype=torch.bfloat16)
    for components in (D.Normal(weights, 1.0), D.Laplace(weights, 1.0), D.Poisson(weights + 1)):
        law = D.MixtureSameFamily(D.Categorical(logits=weights), components)
        assert push(law, noise_like(law, generator())).dtype == torch.bfloat16
