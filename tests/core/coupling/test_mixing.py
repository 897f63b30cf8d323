"""The mixture over a latent's draws is the average of their densities, or is refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Independent,
    LogNormal,
    MixtureSameFamily,
    Normal,
    OneHotCategorical,
)

from limbeck.core import methods
from limbeck.core.coupling import (
    IndependentNoise,
    WithPosterior,
)
from limbeck.core.coupling.mixing import mixture
from limbeck.core.delta import Delta
from limbeck.core.divergence import kl, kl_monte_carlo
from limbeck.core.graph import DGM
from limbeck.core.objective import Match, Objective
from limbeck.errors import MatchError

randn, rand = (partial(draw, dtype=torch.float64) for draw in (torch.randn, torch.rand))


@pytest.mark.parametrize("given", ["probs", "logits"])
def test_mixture_of_classes_averages_probabilities(given: str) -> None:
    logits = torch.randn(6, 4, dtype=torch.float64)
    base = Categorical(**{given: torch.softmax(logits, -1) if given == "probs" else logits})
    mixed = mixture(base, 3)
    expected = torch.softmax(logits, -1).reshape(2, 3, 4).mean(1)
    torch.testing.assert_close(mixed.probs, expected)


def test_mixture_of_one_bit_averages_probabilities() -> None:
    p = torch.rand(6, 1, dtype=torch.float64)
    torch.testing.assert_close(mixture(Bernoulli(probs=p), 2).probs, p.reshape(3, 2, 1).mean(1))


@pytest.mark.parametrize(
    "base",
    [
        lambda: Normal(randn(6, 3), rand(6, 3) + 0.5),
        lambda: Normal(randn(6, 3), 0.5),
        lambda: Independent(Normal(randn(6, 3), rand(6, 3) + 0.5), 1),
        lambda: Bernoulli(logits=randn(6, 3)),
        lambda: Bernoulli(probs=rand(6, 3)),
        lambda: Categorical(logits=randn(6, 3, 4)),
        lambda: OneHotCategorical(logits=randn(6, 3, 4)),
        lambda: Beta(rand(6, 3) + 0.5, rand(6, 3) + 0.5),
        lambda: LogNormal(randn(6, 3), rand(6, 3) + 0.5),
    ],
    ids=["normal", "one scale", "independent", "bits", "bits by probs", "classes", "one-hot", "beta", "log-normal"],
)
def test_mixture_density_is_the_average_of_densities(base) -> None:
    torch.manual_seed(0)
    law = base()
    value = law.sample()[:2]
    for name in ("probs", "logits"):  # what drawing from it leaves behind
        getattr(law, name, None)
    mixed = mixture(law, 3)
    assert isinstance(mixed, MixtureSameFamily)
    each = law.log_prob(value.repeat_interleave(3, 0)).reshape(2, 3, -1).sum(-1)
    torch.testing.assert_close(mixed.log_prob(value), each.exp().mean(1).log(), rtol=1e-12, atol=1e-12)


class Shifted(Normal):
    """A law of one's own with a setting that ``arg_constraints`` does not tell."""

    def __init__(self, loc, scale, low=0.0, validate_args=None) -> None:
        super().__init__(loc + low, scale, validate_args=validate_args)
        self.low = low


class Same(Normal):
    """A law of one's own that its parameters tell."""


def test_a_law_of_ones_own_is_mixed_only_if_its_parameters_tell_it() -> None:
    loc, scale = torch.randn(6, 3), torch.rand(6, 3) + 0.5
    assert isinstance(mixture(Same(loc, scale), 2).component_distribution.base_dist, Same)
    with pytest.raises(MatchError, match=r"Shifted cannot be made again.*takes 'low', which its arg_constraints"):
        mixture(Shifted(loc, scale, 5.0), 2)


class ManyBits(DGM):
    """A latent shift and a target of several bits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 5)

    def generate(self, sites, x=None):
        z = sites.latent("z", sites.standard_normal(2))
        sites.target("y", Bernoulli(logits=self.layer(z)))


def test_marginalized_takes_a_target_of_several_bits() -> None:
    loss = methods.marginalized(4, target=kl_monte_carlo)(ManyBits(), ManyBits(), batch_size=16)
    assert torch.isfinite(loss.total)


class OneTarget(ManyBits):
    """A latent shift and a target of the law that is asked for, in the rows that are asked for."""

    def __init__(self, law, mask=lambda h, x: None) -> None:
        super().__init__()
        self.law, self.mask = law, mask

    def generate(self, sites, x=None):
        h = self.layer(sites.latent("z", sites.standard_normal(2)))
        sites.target("y", self.law(h), mask=self.mask(h, x))


@pytest.mark.parametrize(
    "law",
    [
        lambda h: Shifted(h, 0.1),
        Delta,
        lambda h: MixtureSameFamily(Categorical(logits=torch.zeros(len(h), 5)), Normal(h, 1.0)),
    ],
    ids=["Shifted", "Delta", "MixtureSameFamily"],
)
def test_a_law_that_cannot_be_mixed_is_named(law, request: pytest.FixtureRequest) -> None:
    model = OneTarget(law)
    with pytest.raises(MatchError, match=rf"'y'.*{request.node.callspec.id}.*methods\.surrogate"):
        methods.marginalized(4, target=kl_monte_carlo)(model, model, batch_size=3)


def test_a_mixture_exists_where_its_draws_do() -> None:
    x = torch.tensor([[1.0], [-1.0], [2.0], [3.0]])
    exists = x[:, 0] > 0
    teacher, student = (OneTarget(lambda h: Categorical(logits=h), lambda h, x: x[:, 0] > 0) for _ in range(2))
    seen = []
    objective = methods.marginalized(2, target=lambda p, q: (seen.append(kl(p, q)), seen[0])[1])
    loss = objective(teacher, student, x=x)
    torch.testing.assert_close(loss.total, torch.where(exists, seen[0], 0.0).mean())
    teacher.mask = lambda h, x: h[:, 0] > 0
    with pytest.raises(MatchError, match=r"'y'.*some of the 2 draws"):
        objective(teacher, student, x=x.repeat(8, 1))


@pytest.mark.parametrize("more", [{"replay_weight": 1.0}, {"coupling": WithPosterior(IndependentNoise(2))}])
def test_a_mixture_leaves_no_samples(more) -> None:
    objective = Objective([Match("y", divergence=kl_monte_carlo)], **{"coupling": IndependentNoise(2), **more})
    with pytest.raises(MatchError, match=r"no sample of the teacher's targets.*SharedNoise"):
        objective(ManyBits(), ManyBits(), batch_size=3)


def test_marginalized_one_hot_vectors_are_a_mixture() -> None:
    def of(h: torch.Tensor) -> OneHotCategorical:
        return OneHotCategorical(logits=h.view(-1, 1, 5).expand(-1, 2, 5) + torch.arange(10.0).view(2, 5))

    loss = methods.marginalized(3, target=kl_monte_carlo)(OneTarget(of), OneTarget(of), batch_size=8)
    assert torch.isfinite(loss.total)
