"""Progressive distillation: halve the number of steps again and again, down to the student's."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.methods.diffusion.denoiser import DenoisingModel, Diffusion, check_diffusion, denoiser_of
from limbeck.core.methods.diffusion.diffusion_objective import DiffusionObjective, StepInputs
from limbeck.errors import MatchError

__all__ = ["Progressive"]


class Progressive(DiffusionObjective):
    r"""One step of the student learns two steps of its guide; then the student is its own guide with half the steps.

    From a noised image :math:`x_t` the guide takes two steps, to :math:`t'` and :math:`t''`. The image that one step of
    the sampler from t would need to get there is

    .. math:: \tilde x = \frac{x_{t''} - (\sigma_{t''} / \sigma_t) x_t}
              {\sqrt{\alpha_{t''}} - (\sigma_{t''} / \sigma_t) \sqrt{\alpha_t}}, \quad
              L = E[\max(\alpha_t / \sigma_t^2, 1) \, \tfrac12 \|\tilde x - f_\theta(x_t, t)\|^2]

    with :math:`\sigma_t^2 = 1 - \alpha_t`. The training is divided into equal parts, with ``most`` steps in the first,
    half as many in the second, and so on down to the student's own number. In the first part the guide is the teacher;
    in each later part it is a copy of the student as it was at the end of the part before. The copy is saved with the
    objective, so that an interrupted training continues where it stopped. The images are the teacher's: no data are
    needed.

    Args:
        most: steps of the student in the first part; the student's own number times a power of 2.

    Raises:
        MatchError: ``most`` is not such a number, or more than half of the diffusion's times; the student's times are
            not evenly spread from the last on, as with ``spacing="trailing"``, or it has another diffusion than the
            teacher; when called: the models are not diffusion models, or ``prepare`` was not called.

    References:
        Salimans & Ho, Progressive Distillation for Fast Sampling of Diffusion Models, ICLR 2022 (Alg. 2, which has no
        half; the weight is their truncated SNR).
    """

    stage: Tensor

    def __init__(self, most: int = 16) -> None:
        super().__init__()
        if most < 1:
            raise MatchError(f"most must be at least 1, not {most}")
        self.most = most
        self.guide: nn.Module | None = None
        self.register_buffer("stage", torch.zeros((), dtype=torch.long))

    @property
    @override
    def scheduled(self) -> bool:
        """Always: the progress says which part of the training it is."""
        return True

    @override
    def prepare(self, teacher: DGM | None, student: DGM, x: Tensor | None = None) -> None:
        """Make room for the guide; see :class:`Objective`."""
        self._parts(student)
        if self.guide is None:
            self.guide = copy.deepcopy(denoiser_of(student, "student")).requires_grad_(False)

    @override
    def losses(self, teacher: DGM, student: DGM, inputs: StepInputs) -> dict[str, Tensor]:
        """One term, ``"progressive"``."""
        if self.guide is None:
            raise MatchError(
                "progressive distillation needs, before the first step, objective.prepare(teacher, student)"
            )
        parts, x = self._parts(student), inputs.x
        part = min(int(inputs.progress * len(parts)), len(parts) - 1)
        if student.training and int(self.stage) < part:
            self.guide.load_state_dict(student.state_dict())
            self.stage.fill_(part)
        source, learner = denoiser_of(teacher, "teacher"), denoiser_of(student, "student")
        check_diffusion(source, learner, [*even_times(source.schedule.times, 2 * self.most), source.schedule.times])
        guide = cast(DenoisingModel, self.guide) if part else source
        schedule, steps = guide.schedule, parts[part]
        image = inputs.teacher_images(teacher)
        path = torch.tensor([*even_times(schedule.times, 2 * steps), schedule.times])
        place = 2 * inputs.random_integers(0, steps, image)
        t, middle, end = (path[place + ahead].to(image.device) for ahead in range(3))
        state, _ = inputs.noised(schedule, image, t)
        with frozen(guide):
            between = schedule.noised(*guide.denoise(state, t, x), middle)
            there = schedule.noised(*guide.denoise(between, middle, x), end)
        target, weight = needed_image(schedule, state, t, there, end)
        prediction, _ = learner.denoise(state, t, x)
        rows = (weight * (prediction - target).square()).flatten(1).sum(1)
        return {"progressive": 0.5 * rows.mean()}

    def _parts(self, student: DGM) -> list[int]:
        """Numbers of steps of the student in each part of the training."""
        learner = denoiser_of(student, "student")
        least, times = len(learner.timesteps), learner.schedule.times
        parts = [self.most]
        while parts[-1] > least and parts[-1] % 2 == 0:
            parts.append(parts[-1] // 2)
        if parts[-1] != least:
            raise MatchError(
                f"progressive distillation halves {self.most} steps down to the student's {least}; choose most = "
                f"{least} times a power of 2"
            )
        if 2 * self.most > times:
            raise MatchError(
                f"progressive distillation with most={self.most} starts from a teacher of {2 * self.most} steps, more "
                f"than the {times} times of the diffusion; choose most <= {times // 2}"
            )
        if (trained := even_times(times, least)) != list(learner.timesteps):
            raise MatchError(
                f"progressive distillation trains a student of these steps at {trained}, but it samples at "
                f"{list(learner.timesteps)}; give it timesteps={trained}, which are those of spacing='trailing'"
            )
        return parts


def even_times(times: int, steps: int) -> list[int]:
    """Evenly spread times of a sampler, beginning with the diffusion's last one.

    >>> even_times(1000, 4)
    [999, 749, 499, 249]
    """
    return [round(times - place * times / steps) - 1 for place in range(steps)]


def needed_image(schedule: Diffusion, state: Tensor, t: Tensor, there: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """The image with which a step of the sampler goes from one state to another, and its weight at that time.

    Args:
        schedule: of the diffusion.
        state: shape (batch, ...).
        t: its time, shape (batch,).
        there: where the step should lead, shape (batch, ...).
        end: the time there, shape (batch,).

    Returns:
        Shapes (batch, ...) and (batch, 1, ...).
    """
    signal, scale = (torch.as_tensor(factor) for factor in schedule.at(t, state))
    signal_there, scale_there = schedule.at(end, state)
    ratio = scale_there / scale
    image = (there - ratio * state) / (signal_there - ratio * signal)
    return image, (signal / scale).square().clamp_min(1.0)
