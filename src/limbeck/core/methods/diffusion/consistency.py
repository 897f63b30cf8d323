"""Consistency distillation: the student predicts one image from all states of a path to it (Song et al. 2023)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.methods.diffusion.denoiser import check_diffusion, denoiser_of
from limbeck.core.methods.diffusion.diffusion_objective import DiffusionObjective, StepInputs
from limbeck.errors import MatchError

__all__ = ["Consistency"]


class Consistency(DiffusionObjective):
    r"""Make the student's image at a time agree with its own image one step of the teacher's sampler later.

    .. math:: L = E_{x_0, t, \epsilon}[d(f_\theta(x_t, t), \bar f_\theta(\hat x_{t'}, t'))], \quad
              x_t = \sqrt{\alpha_t} x_0 + \sqrt{1 - \alpha_t} \epsilon, \quad
              \hat x_{t'} = \text{DDIM}_\phi(x_t, t \to t')

    where :math:`x_0` is an image that the teacher has drawn, so that no data are needed, t is one of the teacher's
    times, :math:`t'` the one after it, and :math:`\bar f` the student without gradient (Song et al. 2023 have a moving
    average of it; Song & Dhariwal 2023 leave that out); after the last time it is the image itself. A step costs one
    evaluation of the teacher, not all of its sampler. d is the pseudo-Huber distance of Song & Dhariwal (2023),
    :math:`\sqrt{\|a - b\|^2 + c^2} - c` with :math:`c = 0.00054 \sqrt{n}` for n pixels.

    Raises:
        MatchError: when called: the models are not diffusion models, the student samples at times at which the teacher
            does not, or it has another diffusion.

    References:
        Song, Dhariwal, Chen & Sutskever, Consistency Models, ICML 2023 (Alg. 2).
    """

    @override
    def losses(self, teacher: DGM, student: DGM, inputs: StepInputs) -> dict[str, Tensor]:
        """One term, ``"consistency"``."""
        guide, learner, x = denoiser_of(teacher, "teacher"), denoiser_of(student, "student"), inputs.x
        if stray := [t for t in learner.timesteps if t not in guide.timesteps]:
            raise MatchError(
                f"consistency distillation trains at the teacher's times, from {guide.timesteps[0]} to "
                f"{guide.timesteps[-1]}, and the student also samples at {stray}; give it timesteps among the teacher's"
            )
        path = [*guide.timesteps, guide.schedule.times]
        check_diffusion(guide, learner, path)
        schedule, times = guide.schedule, torch.tensor(path)
        image = inputs.teacher_images(teacher)
        place = inputs.random_integers(0, len(times) - 1, image)
        t, later = times[place].to(image.device), times[place + 1].to(image.device)
        state, _ = inputs.noised(schedule, image, t)
        with frozen(guide):
            after = schedule.noised(*guide.denoise(state, t, x), later)
        prediction, _ = learner.denoise(state, t, x)
        with torch.no_grad():
            ended = (later == schedule.times).view(-1, *([1] * (image.ndim - 1)))
            own, _ = learner.denoise(after, later.clamp(max=schedule.times - 1), x)
            target = torch.where(ended, after, own)
        return {"consistency": _huber(prediction, target).mean()}


def _huber(a: Tensor, b: Tensor) -> Tensor:
    """Pseudo-Huber distance of rows, shape (batch,)."""
    squared = (a - b).square().flatten(1).sum(1)
    c: float = 0.00054 * math.sqrt(a[0].numel())
    return torch.sqrt(squared + c * c) - c
