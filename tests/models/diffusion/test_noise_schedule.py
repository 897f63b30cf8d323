"""The times of a sampler's steps, and the constants of its noise."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from limbeck.models.diffusion.schedule import sampling_times
from tests.models.diffusion.ddims import diffusers, image, model, noise, theirs


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_trailing_times_are_those_of_diffusers_where_they_divide_all(steps: int) -> None:
    ddim = model(steps=steps, spacing="trailing")
    assert ddim.timesteps[0] == 999
    torch.testing.assert_close(image(ddim, noise()), theirs(ddim, noise(), steps, "trailing"), rtol=1e-9, atol=1e-9)


def test_quadratic_times_are_the_papers() -> None:
    times = sampling_times(None, 100, "quadratic")
    assert len(times) == 96
    assert (times[0], times[-1]) == (800, 0)
    assert times[1] == int((math.sqrt(800) * 98 / 99) ** 2)
    assert sampling_times(None, 3, "quadratic", start=980) == (980, 245, 0)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50, 1000])
def test_other_times_are_those_of_diffusers(spacing: Any, steps: int) -> None:
    scheduler = diffusers.DDIMScheduler(timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    assert sampling_times(None, steps, spacing) == tuple(scheduler.timesteps.tolist())


def test_constants_do_not_depend_on_what_precision_a_model_was_in() -> None:
    ddim = model(steps=5, scheduler={"prediction_type": "v_prediction"})
    before = image(ddim, noise())
    signal, scale = ddim.schedule.at(torch.tensor([0, 999, 1000]), noise())
    torch.testing.assert_close(signal**2 + scale**2, torch.ones(3, 1, 1, 1, dtype=torch.float64), rtol=1e-15, atol=0)
    assert (signal[2], scale[2]) == (1.0, 0.0)
    assert ddim.schedule.at(999, noise()) == (signal[1].item(), scale[1].item())
    ddim.schedule.float().double()
    assert torch.equal(image(ddim, noise()), before)
    assert not ddim.schedule.state_dict()
