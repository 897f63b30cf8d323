"""Running a program: tracing, replaying, sampling, and what a model knows of itself."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import scipy.stats
import torch
from torch import nn
from torch.distributions import Binomial, Categorical, Independent, Laplace, Normal

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.trace import Kind
from limbeck.errors import ModelError, ReparameterizationError, SiteError
from tests.zoo import BY_NAME, ZOO, Angular, Bits, NoisyClassifier, inputs


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------------------------------------- arguments


def test_the_number_of_rows_is_told_by_whatever_is_given() -> None:
    model = BY_NAME["chain"].pair()[0]
    first = model.trace(4)
    assert first.batch_size == 4
    assert model.trace(noise=first.noise).batch_size == 4
    assert model.trace(values={"z1": first["z1"].value}).batch_size == 4
    assert NoisyClassifier().trace(x=inputs(6)).batch_size == 6
    with pytest.raises(SiteError, match=r"batch_size, x, noise or values"):
        model.trace()


def test_a_model_without_parameters() -> None:
    class Root(DGM):
        def generate(self, sites, x=None):
            sites.target("y", sites.standard_normal(2))

    assert Root().sample(3)["y"].shape == (3, 2)


def test_values_replace_draws_and_their_children_see_them() -> None:
    model = BY_NAME["chain"].pair()[0]
    z1 = torch.full((3, 2), 7.0)
    trace = model.trace(values={"z1": z1})
    assert trace["z1"].value is z1
    assert trace["z1"].noise is None
    assert trace["z2"].noise is not None
    torch.testing.assert_close(trace["y"].distribution.loc, model.maps["y"](z1))


def test_a_given_deterministic_value_reaches_its_children() -> None:
    model = BY_NAME["features"].pair()[0]
    x = inputs(3)
    h = torch.ones(3, 10)
    trace = model.trace(x=x, values={"h": h})
    torch.testing.assert_close(trace["y"].distribution.logits, torch.log_softmax(model.head(h), -1))
    assert "h" not in trace.values
    assert "h" not in trace.noise


def test_noise_for_latents_leaves_targets_random() -> None:
    model = BY_NAME["chain"].pair()[0]
    first = model.trace(3)
    latent = {name: first[name].noise for name in ("z2", "z1")}
    again = model.trace(noise=latent)
    assert torch.equal(again["z1"].value, first["z1"].value)
    assert not torch.equal(again["y"].value, first["y"].value)
    assert torch.equal(again["y"].distribution.loc, first["y"].distribution.loc)


def test_rows_do_not_see_each_other() -> None:
    for entry in ZOO:
        if not entry.alone:
            continue
        model, _ = entry.pair(dtype=torch.float64)
        trace = model.trace(**entry.rows(6, torch.float64))
        x = entry.rows(6, torch.float64).get("x")
        half = model.trace(x=None if x is None else x[2:4], noise={n: e[2:4] for n, e in trace.noise.items()})
        for name, site in half.items():
            torch.testing.assert_close(site.value, trace[name].value[2:4])


def test_the_trace_is_an_ordered_mapping() -> None:
    trace = BY_NAME["mixed"].pair()[0].trace(2)
    assert list(trace) == list(trace.keys()) == [name for name, _ in trace.items()] == ["z2", "z1", "y1", "y2"]
    assert len(trace) == 4
    assert "z1" in trace
    assert "z3" not in trace
    assert repr(trace) == "Trace(z2: latent, z1: latent, y1: target, y2: target)"
    assert list(trace.targets) == ["y1", "y2"]
    assert [site.name for site in trace.of_kind(Kind.LATENT)] == ["z2", "z1"]
    with pytest.raises(SiteError, match=r"'z3'.*z2, z1, y1, y2"):
        trace["z3"]
    assert list(trace.declared) == ["z2", "z1", "y1", "y2"]


def test_log_prob_of_a_gaussian_graph_is_that_of_its_joint() -> None:
    for name in ("chain", "branch"):
        model, _ = BY_NAME[name].pair(dtype=torch.float64)
        trace = model.trace(5)
        stacked = torch.cat([trace[n].value for n in ("z2", "z1", "y")] if name == "chain" else
                            [trace[n].value for n in ("z2", "y2", "z1", "y1")], 1)  # fmt: skip
        torch.testing.assert_close(trace.log_prob(), model.joint("latent", "target").log_prob(stacked))


def test_log_prob_needs_values_and_distributions() -> None:
    model = BY_NAME["chain"].pair()[0]
    with pytest.raises(SiteError, match=r"'z2'.*not kept"):
        model.trace(2, keep=lambda name, kind: 4).log_prob()
    with pytest.raises(SiteError, match="no site of the kinds"):
        model.trace(2).log_prob(Kind.DETERMINISTIC)


# ------------------------------------------------------------------------------------------------------------ sampling


def test_sampling_returns_the_targets_and_no_graph() -> None:
    for entry in ZOO:
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


def test_temperature_zero_leaves_the_medians() -> None:
    for entry in ZOO:
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
def test_the_mean_of_the_targets(entry) -> None:
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


# ------------------------------------------------------------------------------------------------ what a model can do


def test_programs_that_a_model_does_not_have() -> None:
    model = Bits()
    with pytest.raises(ModelError, match="Bits has no inference program"):
        model.trace_inference(torch.zeros(3))
    with pytest.raises(ModelError, match="Bits cannot be trained on data"):
        model.loss(Batch(torch.zeros(3)))


class Normed(DGM):
    """Statistics that a run in training mode would change, and which need more than one row there."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))

    def generate(self, sites, x=None):
        z = sites.latent("z", sites.standard_normal(3))
        sites.target("y", Normal(self.body(x) + z, 1.0))


def test_asking_for_the_names_of_the_targets_leaves_no_trace() -> None:
    model, y = Normed().train(), torch.zeros(4, 3)
    model.body[0].eval()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert model.split_targets(y, inputs(4, shape=(2,))) == {"y": y}
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.body] == [False, True]


def test_generate_is_required() -> None:
    with pytest.raises(TypeError, match="abstract"):
        DGM()


def test_parameters_are_generative_unless_they_are_inferences() -> None:
    model = BY_NAME["ladder"].pair()[0]
    inference = {id(p) for p in model.inference_parameters()}
    generative = {id(p) for p in model.generative_parameters()}
    assert inference
    assert not inference & generative
    assert inference | generative == {id(p) for p in model.parameters()}
    chain = BY_NAME["chain"].pair()[0]
    assert len(chain.generative_parameters()) == len(list(chain.parameters()))


class Configured(DGM):
    def __init__(self, a: int, b: float = 2.0, *rest: int, c: str = "c", **more: int) -> None:
        super().__init__()

    def generate(self, sites, x=None):
        sites.target("y", sites.standard_normal(a := 1, a))


def test_constructor_arguments_are_recorded() -> None:
    assert Angular().config == {"family": "laplace"}
    assert Angular("normal").config == {"family": "normal"}
    assert Configured(1, c="d", e=5).config == {"a": 1, "b": 2.0, "c": "d", "e": 5}
    assert Configured(1, 2.0, 3, 4).config == {"a": 1, "b": 2.0, "c": "c", "rest": (3, 4)}


def test_a_config_belongs_to_one_model() -> None:
    one, other = Angular("normal"), Angular()
    twin = copy.deepcopy(one)
    twin.config["family"] = "changed"
    assert one.config == {"family": "normal"}
    assert other.config == {"family": "laplace"}


def test_wrong_constructor_arguments_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="nonsense"):
        Angular(nonsense=1)


# ---------------------------------------------------------------------------------------------------------------- loss


def test_the_terms_of_a_loss_are_its_total() -> None:
    loss = Loss.of({"a": torch.tensor(3.0), "b": torch.tensor(-1.0)})
    assert loss.total.item() == 2.0
    assert loss.shares() == {"a": 0.75, "b": 0.25}
    assert Loss.of({}).total.item() == 0.0
    assert Loss.of({"a": torch.tensor(0.0)}).shares() == {"a": 0.0}


def test_backward_is_that_of_the_total() -> None:
    w = nn.Parameter(torch.tensor(2.0))
    Loss.of({"a": w**2, "b": 3 * w}).backward()
    assert w.grad.item() == 7.0


def test_a_batch_has_rows() -> None:
    assert len(Batch(torch.zeros(3, 2))) == 3
