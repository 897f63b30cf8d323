"""Samples of a model: their law, their temperature, and their means."""

from __future__ import annotations

from itertools import pairwise

import pytest
import scipy.stats
import torch
from torch.distributions import Binomial, Categorical, Independent, Laplace, Normal

from limbeck.core.graph import DGM
from limbeck.core.trace import Kind
from limbeck.errors import ModelError, ReparameterizationError
from tests.small_models import Angular, seeded
from tests.zoo import BY_NAME, ZOO, Entry


@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_sampling_returns_the_targets_and_no_graph(entry: Entry) -> None:
    model, _ = entry.pair()
    torch.manual_seed(0)  # drawings end when they end
    drawn = model.sample(**entry.rows(4))
    torch.manual_seed(0)
    assert list(drawn) == [s.name for s in model.trace(**entry.rows(4)).of_kind(Kind.TARGET)]
    assert all(len(value) == 4 and not value.requires_grad for value in drawn.values())


def test_another_output_is_refused() -> None:
    with pytest.raises(ModelError, match="sample or mean, not 'samples'"):
        Angular().sample(2, output="samples")


def test_samples_follow_the_models_law() -> None:
    model, _ = BY_NAME["chain"].pair(dtype=torch.float64)
    y = model.sample(40_000, generator=seeded())["y"]
    law = model.joint("target")
    torch.testing.assert_close(y.mean(0), law.mean.detach(), atol=5 * law.stddev.max().item() / 200, rtol=0)
    torch.testing.assert_close(torch.cov(y.T), law.covariance_matrix.detach(), rtol=0.05, atol=0.05)


# Models whose targets, which stay random, are parents of other sites.
FEEDING_BACK = ("loop", "mixed", "branch", "sequence", "helmholtz", "drawings")


@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_temperature_zero_leaves_the_medians(entry: Entry) -> None:
    model, _ = entry.pair()
    trace = model.trace(**entry.rows(5), temperature=0.0)
    for site in trace.of_kind(Kind.LATENT):
        law = site.distribution
        if isinstance(law, (Normal, Laplace)):
            torch.testing.assert_close(site.value, law.loc)
        elif hasattr(law, "low"):
            torch.testing.assert_close(site.value, (law.low + law.high) / 2)
        elif isinstance(law, Binomial):
            count, probs = (part.detach().numpy() for part in (law.total_count, law.probs))
            assert torch.equal(site.value, torch.tensor(scipy.stats.binom.median(count, probs)).float())
        else:
            assert torch.equal(site.value, (law.probs > 0.5).float())
    if not entry.conditional and entry.name != "loop":  # there even the first target follows one that stays random
        first_target = trace.of_kind(Kind.TARGET)[0].distribution
        mean = first_target.probs if isinstance(first_target, Categorical) else first_target.mean
        torch.testing.assert_close(mean, mean[:1].expand_as(mean))


def test_temperature_scales_the_spread_of_latents_only() -> None:
    model, _ = BY_NAME["chain"].pair(dtype=torch.float64)
    spreads = [model.trace(20_000, temperature=t, generator=seeded()) for t in (0.0, 0.5, 1.0)]
    z2 = [trace["z2"].value.std(0) for trace in spreads]
    torch.testing.assert_close(z2[1], 0.5 * z2[2])
    assert z2[0].abs().max() < 1e-12
    residual = [(trace["y"].value - trace["y"].distribution.loc).std(0) for trace in spreads]
    for one, other in pairwise(residual):
        torch.testing.assert_close(one, other)


def test_a_temperature_is_not_negative() -> None:
    with pytest.raises(ReparameterizationError, match="temperature"):
        BY_NAME["chain"].pair()[0].sample(2, temperature=-1.0)


@pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.name)
def test_the_output_may_be_the_mean_of_the_targets(entry) -> None:
    model, _ = entry.pair()
    mean = model.sample(**entry.rows(4), output="mean", generator=seeded())
    trace = model.trace(**entry.rows(4), generator=seeded())
    assert list(mean) == list(trace.targets)
    for name, value in mean.items():
        law = trace[name].distribution
        assert torch.isfinite(value).all()
        expected = law.probs if isinstance(law, Categorical) else law.mean
        assert torch.equal(value, expected)


def test_the_mean_of_classes_is_their_probabilities() -> None:
    class Grid(DGM):
        def generate(self, sites, x=None):
            sites.target("y", Independent(Categorical(logits=sites.zeros(2, 4)), 1))

    assert torch.equal(Grid().sample(3, output="mean")["y"], torch.full((3, 2, 4), 0.25))
    assert torch.equal(Grid()(noise={"y": torch.zeros(3, 2, 4)})["y"], torch.full((3, 2, 4), 0.25))


@pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.name)
def test_the_same_noise_gives_the_same_sample(entry) -> None:
    model, _ = entry.pair()
    noise = model.trace(**entry.rows(4)).noise
    x = entry.rows(4).get("x")
    draws = [model.sample(x=x, noise=noise) for _ in range(2)]
    for name in draws[0]:
        assert torch.equal(draws[0][name], draws[1][name])
    if entry.name in FEEDING_BACK:
        return
    latent = {s.name: s.noise for s in model.trace(x=x, noise=noise).of_kind(Kind.LATENT)}
    means = [model.sample(x=x, noise=latent, batch_size=4, output="mean") for _ in range(2)]
    for name in draws[0]:
        assert torch.equal(means[0][name], means[1][name])
