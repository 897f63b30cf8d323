"""What a step of an objective over noised images starts from, and what its networks are told."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from limbeck import methods
from limbeck.core.methods.diffusion.diffusion_objective import StepInputs
from limbeck.models import DDIM
from limbeck.models.diffusion.schedule import NoiseSchedule
from tests.core.methods.diffusion.small_samplers import TEACHER, TINY, student

GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_numbers_are_drawn_where_their_generator_is(device: str) -> None:
    def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        inputs = StepInputs(3, None, 0.0, torch.Generator(device).manual_seed(0))
        image = torch.zeros(3, 1, 4, 4)
        t = inputs.random_integers(5, 9, image)
        return (t, *inputs.noised(NoiseSchedule(), image, t))

    state = torch.random.get_rng_state()
    t, noised, noise = drawn()
    assert t.device.type == noised.device.type == noise.device.type == "cpu"
    assert bool(((t >= 5) & (t < 9)).all())
    assert all(torch.equal(one, other) for one, other in zip(drawn(), (t, noised, noise), strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "make",
    [methods.consistency, partial(methods.progressive, most=2), methods.distribution_matching],
    ids=["consistency", "progressive", "distribution matching"],
)
def test_every_network_is_told_the_condition(make, monkeypatch: pytest.MonkeyPatch) -> None:
    v = {"prediction_type": "v_prediction"}
    teacher, learner = (DDIM({**TINY, "num_class_embeds": 3}, scheduler=v, steps=n, spacing="trailing") for n in (4, 1))
    x, told, network = torch.eye(3), [], DDIM.network

    def listening(model: DDIM, state: Tensor, t: int | Tensor, x: Tensor | None = None) -> Tensor:
        told.append(x)
        return network(model, state, t, torch.eye(3) if x is None else x)

    objective = make()
    objective.prepare(teacher, learner)
    monkeypatch.setattr(DDIM, "network", listening)
    objective(teacher, learner, x=x, progress=0.0)
    assert told
    assert all(each is x for each in told)


@pytest.mark.parametrize(
    ("make", "kept"), [(partial(methods.progressive, most=2), "guide"), (methods.distribution_matching, "critic")]
)
def test_a_network_of_its_own_is_made_once(make, kept: str) -> None:
    objective = make()
    objective.prepare(TEACHER, student([999]))
    first = getattr(objective, kept)
    objective.prepare(TEACHER, student([999]))
    assert getattr(objective, kept) is first
