"""Running a program: tracing, replaying, and what a model is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.trace import Kind
from limbeck.errors import ModelError, SiteError
from tests.small_models import Angular, Bits, NoisyClassifier
from tests.zoo import BY_NAME, ZOO, Entry, inputs


def test_the_number_of_rows_is_told_by_whatever_is_given() -> None:
    model = BY_NAME["chain"].pair()[0]
    first = model.trace(4)
    assert first.batch_size == 4
    assert model.trace(noise=first.noise).batch_size == 4
    assert model.trace(values={"z1": first["z1"].value}).batch_size == 4
    assert NoisyClassifier().trace(x=inputs(6)).batch_size == 6
    with pytest.raises(SiteError, match=r"batch_size, x, noise or values"):
        model.trace()
    for wrong in (inputs(6), 6.0):  # the first argument is not x
        with pytest.raises(SiteError, match=r"a number of rows, not a .*x=\.\.\."):
            NoisyClassifier().sample(wrong)


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


@pytest.mark.parametrize("entry", [entry for entry in ZOO if entry.alone], ids=lambda entry: entry.name)
def test_rows_do_not_see_each_other(entry: Entry) -> None:
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


def test_programs_that_a_model_does_not_have_are_refused() -> None:
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


def test_one_draw_of_two_models_whose_latents_have_other_families() -> None:
    """Normal noise for a Laplace latent, of the same quantile."""
    normal, laplace = Angular("normal"), Angular()
    laplace.load_state_dict(normal.state_dict())
    run = normal.trace(5)
    noise = {name: site.noise for name, site in run.items() if site.kind is Kind.LATENT}
    found = laplace.sample(noise=noise, laws=run.laws, output="mean")
    expected = laplace.trace(noise=noise, laws=run.laws)
    assert all(torch.equal(value, expected[name].distribution.mean) for name, value in found.items())
    assert all(value.isfinite().all() for value in found.values())
