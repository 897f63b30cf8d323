"""Consistency distillation against its formula."""

import pytest
import torch

from limbeck import methods
from tests.core.methods.diffusion.small_samplers import TEACHER, path, student


def test_consistency_is_its_formula():
    learner = student([999, 499])
    torch.manual_seed(3)
    loss = methods.consistency()(TEACHER, learner, batch_size=6).total
    torch.manual_seed(3)
    with torch.no_grad():
        image = path(TEACHER, torch.randn(6, 1, 4, 4, dtype=torch.float64))["x_0"]
    torch.randn(6, 1, 4, 4, dtype=torch.float64)  # of the target, whose mean is what counts
    place, noise = torch.randint(10, (6,)), torch.randn(6, 1, 4, 4, dtype=torch.float64)
    times = [*TEACHER.timesteps, 1000]
    total = 0.0
    for row in range(6):
        t, after = times[place[row]], times[place[row] + 1]
        (a, s), (b, r) = TEACHER.schedule.at(t, noise), TEACHER.schedule.at(after, noise)
        state = a * image[row] + s * noise[row]
        told = TEACHER.unet(state[None], t).sample[0]
        moved = b * (a * state - s * told) + r * (a * told + s * state)
        seen = a * state - s * learner.unet(state[None], t).sample[0]
        aim = moved if after == 1000 else b * moved - r * learner.unet(moved[None], after).sample[0]
        c = 0.00054 * 4
        total += ((seen - aim).square().sum() + c**2).sqrt() - c
    assert loss.item() == pytest.approx(total.item() / 6, rel=1e-9)


def test_consistency_passes_no_gradient_through_its_aim():
    learner = student([999])
    methods.consistency()(TEACHER, learner, batch_size=4).total.backward()
    assert all(p.grad is None for p in TEACHER.parameters())
    assert any(p.grad.abs().sum() > 0 for p in learner.parameters() if p.grad is not None)
