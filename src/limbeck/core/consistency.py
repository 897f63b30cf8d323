"""Consistency distillation: a student that sees one image from every state of a path to it (Song et al. 2023)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limbeck.core.coupling import frozen
from limbeck.core.diffusion import denoiser_of
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.objective import Objective
from limbeck.core.replay import KEEP, generated
from limbeck.core.trace import KEEP_NOTHING, Kind
from limbeck.errors import MatchError

__all__ = ["Consistency"]


class Consistency(Objective):
    r"""The student's image at a time agrees with its own image at the next, one step of the teacher's sampler on.

    .. math:: L = E_{x_0, t, \epsilon}[d(f_\theta(x_t, t), \bar f_\theta(\hat x_{t'}, t'))], \quad
              x_t = \sqrt{\alpha_t} x_0 + \sqrt{1 - \alpha_t} \epsilon, \quad
              \hat x_{t'} = \text{DDIM}_\phi(x_t, t \to t')

    where :math:`x_0` is an image that the teacher has drawn, so that no data are needed, t is one of the teacher's
    times, :math:`t'` the one after it, and :math:`\bar f` the student without gradient; after the last time it is the
    image itself. A step costs one evaluation of the teacher, not all of its sampler. d is the pseudo-Huber distance of
    Song & Dhariwal (2023), :math:`\sqrt{\|a - b\|^2 + c^2} - c` with :math:`c = 0.00054 \sqrt{n}` for n pixels.

    Raises:
        MatchError: when called with models that are no diffusion models.

    References:
        Song, Dhariwal, Chen & Sutskever, Consistency Models, ICML 2023 (Alg. 2).
    """

    def __init__(self) -> None:
        super().__init__([], replay_weight=1.0, replay="mean")

    def forward(
        self,
        teacher: DGM | None,
        student: DGM,
        *,
        batch_size: int | None = None,
        x: Tensor | None = None,
        batch: Batch | None = None,
        progress: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """One term, ``"consistency"``; arguments as for :class:`Objective`."""
        if teacher is None:
            raise MatchError("this objective compares with a teacher, but none was given")
        if batch is not None and x is None:
            x = batch.x
        image = drawn(teacher, batch_size if batch is None else None, x, generator)
        guide, learner = denoiser_of(teacher, "teacher"), denoiser_of(student, "student")
        schedule, times = guide.schedule, torch.tensor([*guide.timesteps, guide.schedule.times])
        place = torch.randint(len(times) - 1, (len(image),), generator=generator)
        t, later = times[place].to(image.device), times[place + 1].to(image.device)
        noise = torch.randn(image.shape, generator=generator, dtype=image.dtype).to(image.device)
        state = schedule.noised(image, noise, t)
        with frozen(guide):
            seen = guide.denoise(state, t, x)
            after = schedule.noised(*seen, later)
        told, _ = learner.denoise(state, t, x)
        with torch.no_grad():
            ended = (later == schedule.times).view(-1, *([1] * (image.ndim - 1)))
            own, _ = learner.denoise(after, later.clamp(max=schedule.times - 1), x)
            aim = torch.where(ended, after, own)
        return Loss.of({"consistency": _huber(told, aim).mean()})


def _huber(a: Tensor, b: Tensor) -> Tensor:
    """Pseudo-Huber distance of rows, shape (batch,)."""
    squared = (a - b).square().flatten(1).sum(1)
    c: float = 0.00054 * math.sqrt(a[0].numel())
    return torch.sqrt(squared + c * c) - c


@torch.no_grad()
def drawn(teacher: DGM, batch_size: int | None, x: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """Images of a teacher in the units of the diffusion, [-1, 1]; shape (batch, channels, height, width)."""
    with frozen(teacher):
        trace = teacher.trace(batch_size, x, keep=_means, generator=generator)
    return 2 * teacher.join_targets(generated(trace, "mean")) - 1


def _means(name: str, kind: Kind) -> int:
    return KEEP["mean"] if kind is Kind.TARGET else KEEP_NOTHING
