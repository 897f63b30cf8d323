"""Progressive distillation against its formula, whoever the guide is."""

import copy

import pytest
import torch

from limbeck import methods
from limbeck.core.methods.diffusion.progressive import needed_image
from tests.core.methods.diffusion.small_samplers import TEACHER, path, student


def step(model, state, t: int, after: int):
    """One step of a sampler, and the image it saw, by hand."""
    told = model.unet(state[None], t).sample[0]
    (a, s), (b, r) = model.schedule.at(t, state), model.schedule.at(after, state)
    return b * (a * state - s * told) + r * (a * told + s * state), a * state - s * told


@pytest.mark.parametrize("progress", [0.0, 0.7])
def test_progressive_is_its_formula(progress):
    learner, objective = student([999]).train(), methods.progressive(most=2)
    objective.prepare(TEACHER, learner)
    before = copy.deepcopy(learner)
    torch.manual_seed(3)
    loss = objective(TEACHER, learner, batch_size=6, progress=progress).total
    guide, steps = (TEACHER, 2) if progress < 0.5 else (before, 1)
    torch.manual_seed(3)
    with torch.no_grad():
        image = path(TEACHER, torch.randn(6, 1, 4, 4, dtype=torch.float64))["x_0"]
    torch.randn(6, 1, 4, 4, dtype=torch.float64)  # of the target, whose mean is what counts
    place, noise = torch.randint(steps, (6,)), torch.randn(6, 1, 4, 4, dtype=torch.float64)
    times = [999, 749, 499, 249, 1000] if steps == 2 else [999, 499, 1000]
    total = 0.0
    for row in range(6):
        t, middle, end = times[2 * place[row] : 2 * place[row] + 3]
        (a, s), (b, r) = TEACHER.schedule.at(t, noise), TEACHER.schedule.at(end, noise)
        state = a * image[row] + s * noise[row]
        there = step(guide, step(guide, state, t, middle)[0], middle, end)[0]
        # What one step needs: b x + r (state - a x) / s = there, solved for the image x.
        aim = (there - r / s * state) / (b - r / s * a)
        total += 0.5 * max(a * a / s / s, 1) * (aim - step(learner, state, t, end)[1]).square().sum()
    assert loss.item() == pytest.approx(total.item() / 6, rel=1e-9)


def test_progressive_takes_the_student_as_guide_at_the_right_times():
    learner, objective = student([999]).train(), methods.progressive(most=4)
    objective.prepare(TEACHER, learner)
    first = copy.deepcopy(objective.guide.state_dict())

    def changed() -> bool:
        return any(not torch.equal(value, first[name]) for name, value in objective.guide.state_dict().items())

    objective(TEACHER, learner.eval(), batch_size=2, progress=0.5)
    assert int(objective.stage) == 0  # a validation is no part of the training
    learner.train()
    for progress, part in ((0.0, 0), (0.3, 0), (0.34, 1), (0.6, 1), (0.7, 2), (0.99, 2)):
        with torch.no_grad():
            next(iter(learner.parameters())).add_(0.1)
        objective(TEACHER, learner, batch_size=2, progress=progress)
        assert int(objective.stage) == part
        assert changed() == (part > 0)
    assert not any(parameter.requires_grad for parameter in objective.parameters())
    resumed = methods.progressive(most=4)
    resumed.prepare(TEACHER, learner)
    resumed.load_state_dict(objective.state_dict())
    assert int(resumed.stage) == 2


def test_the_weight_is_the_signal_to_noise_ratio_but_not_below_one():
    t, end = torch.tensor([50, 900]), torch.tensor([20, 800])
    state, there = torch.randn(2, 2, 1, 4, 4, dtype=torch.float64)
    _, weight = needed_image(TEACHER.schedule, state, t, there, end)
    signal, scale = TEACHER.schedule.at(t, state)
    ratio = (signal**2 / scale**2).flatten()
    assert ratio[0] > 1 > ratio[1]
    torch.testing.assert_close(weight.flatten(), torch.stack([ratio[0], torch.ones_like(ratio[1])]))
