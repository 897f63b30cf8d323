"""Stand-ins answer as the model behind them, and that model is found again."""

from __future__ import annotations

import pytest
import torch

from limbeck.core.methods.diffusion.denoiser import denoiser_of
from limbeck.core.stand_in import StandIn, real_model
from limbeck.errors import MatchError
from tests.tiny import Tiny, built, rows


def test_the_model_behind_is_found() -> None:
    model = built()
    assert real_model(model) is model
    assert real_model(StandIn(model)) is model
    assert real_model(StandIn(StandIn(model))) is model


class Denoising(Tiny):
    """Has the names that a model of diffusion has."""

    schedule, timesteps, denoise, network = None, (), len, len


def test_an_attribute_of_the_same_name_is_no_model_behind() -> None:
    model, other = built(), built(Denoising)
    model.source = other
    assert real_model(model) is model
    assert denoiser_of(StandIn(other), "teacher") is other
    with pytest.raises(MatchError, match="but Tiny has no denoise"):
        denoiser_of(model, "teacher")


def test_what_is_forwarded() -> None:
    model = built().eval()
    found = StandIn(model).eval()
    y, noise = rows().y, model.trace(4).noise
    traces = [one.trace(noise=noise) for one in (model, found)]
    assert list(traces[0]) == list(traces[1])
    assert all(torch.equal(traces[0][name].value, traces[1][name].value) for name in traces[0])
    inferred = model.trace_inference(y)
    again = found.trace_inference(y, noise=inferred.noise)
    assert all(torch.equal(inferred[name].value, again[name].value) for name in inferred)
    assert {id(p) for p in found.inference_parameters()} == {id(p) for p in model.inference_parameters()}
    assert torch.equal(found.observed(y), y)
    torch.manual_seed(0)
    expected = model.loss(rows()).total
    torch.manual_seed(0)
    assert torch.equal(found.loss(rows()).total, expected)


def test_it_decides_on_nothing_by_itself() -> None:
    found = StandIn(Tiny())
    assert not found.chooses_inputs
    assert found.choose(4) is None
    assert found.held_out_rows is None
    assert found.key_parts() == {}
