"""What a step of an objective over noised images starts from."""

from __future__ import annotations

import pytest
import torch

from limbeck.core.methods.diffusion.diffusion_objective import StepInputs
from limbeck.models.diffusion.schedule import NoiseSchedule

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
