"""What objectives share that evaluate networks on noised images, rather than compare the sites of two runs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.coupling.replay import KEEP, generated
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.methods.diffusion.denoiser import Diffusion
from limbeck.core.objective import Objective
from limbeck.core.trace import Kind, keep_fields
from limbeck.errors import MatchError

__all__ = ["DiffusionObjective", "StepInputs"]


@dataclass(frozen=True)
class StepInputs:
    """What one step of a training starts from.

    Attributes:
        rows: how many images, where there is no ``x``.
        x: conditioning input, shape (batch, ...), if the models have one.
        progress: fraction of training that is done, in [0, 1].
        generator: source of noise.
    """

    rows: int | None
    x: Tensor | None
    progress: float
    generator: torch.Generator | None

    def images_of(self, model: DGM) -> Tensor:
        """Draw images from a model, in the units of the diffusion, [-1, 1]; shape (batch, channels, height, width)."""
        rows = self.rows if self.x is None else None
        trace = model.trace(rows, self.x, keep=keep_fields(KEEP["mean"], Kind.TARGET), generator=self.generator)
        return 2 * model.join_targets(generated(trace, "mean")) - 1

    def teacher_images(self, teacher: DGM) -> Tensor:
        """The same from a teacher: without gradients, in eval mode."""
        with frozen(teacher):
            return self.images_of(teacher)

    def random_integers(self, first: int, last: int, image: Tensor) -> Tensor:
        """One random integer for each image, at least ``first`` and below ``last``; shape (batch,), on the CPU."""
        return torch.randint(first, last, (len(image),), generator=self.generator, device=self._device).cpu()

    def noised(self, schedule: Diffusion, image: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The images with noise added, at their times of a diffusion, and that noise; shapes as ``image``."""
        noise = torch.randn(image.shape, generator=self.generator, dtype=image.dtype, device=self._device)
        noise = noise.to(image.device)
        return schedule.noised(image, noise, t), noise

    @property
    def _device(self) -> torch.device:
        """Where random numbers are drawn: on that of their generator, without one on the CPU."""
        return torch.device("cpu") if self.generator is None else self.generator.device


class DiffusionObjective(Objective):
    """An objective over two diffusion models with a loss of its own; no sites of two runs are matched."""

    def __init__(self) -> None:
        super().__init__([])

    @property
    @override
    def needs_teacher(self) -> bool:
        """Always: its network is evaluated."""
        return True

    @abstractmethod
    def losses(self, teacher: DGM, student: DGM, inputs: StepInputs) -> dict[str, Tensor]:
        """Name to term of the loss, shape (), averaged over rows.

        Args:
            teacher: the frozen model.
            student: the model to train.
            inputs: what the step starts from.
        """

    @override
    def forward(
        self,
        teacher: DGM | None,
        student: DGM,
        *,
        batch_size: int | None = None,
        x: Tensor | None = None,
        batch: Batch | None = None,
        progress: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """The terms of :meth:`losses`; arguments as for :class:`Objective`."""
        if teacher is None:
            raise MatchError("this objective compares with a teacher, but none was given")
        if batch is not None:
            x = batch.x if x is None else x
            batch_size = len(batch) if batch_size is None else batch_size
        inputs = StepInputs(batch_size, x, self.progress_of(progress), generator)
        return Loss.of(self.losses(teacher, student, inputs))
