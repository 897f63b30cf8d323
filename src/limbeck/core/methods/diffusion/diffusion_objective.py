"""What the objectives have in common that ask networks about noised images rather than compare sites of two runs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.core.coupling import frozen
from limbeck.core.coupling.replay import KEEP, generated
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.methods.diffusion.denoiser import Diffusion
from limbeck.core.objective import Objective
from limbeck.core.trace import keep_targets
from limbeck.errors import MatchError

__all__ = ["Asked", "DiffusionObjective"]


@dataclass(frozen=True)
class Asked:
    """What one step is asked for.

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

    def drawn(self, model: DGM) -> Tensor:
        """Images of a model in the units of the diffusion, [-1, 1]; shape (batch, channels, height, width)."""
        rows = self.rows if self.x is None else None
        trace = model.trace(rows, self.x, keep=keep_targets(KEEP["mean"]), generator=self.generator)
        return 2 * model.join_targets(generated(trace, "mean")) - 1

    def taught(self, teacher: DGM) -> Tensor:
        """The same of a teacher: without gradients, in eval mode."""
        with frozen(teacher):
            return self.drawn(teacher)

    def chosen(self, first: int, last: int, image: Tensor) -> Tensor:
        """A whole number of each image's own, from ``first`` up to but not ``last``, shape (batch,), on the CPU."""
        return torch.randint(first, last, (len(image),), generator=self.generator)

    def noised(self, schedule: Diffusion, image: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Images at times of a diffusion, and the noise that was added; shapes as ``image``."""
        noise = torch.randn(image.shape, generator=self.generator, dtype=image.dtype).to(image.device)
        return schedule.noised(image, noise, t), noise


class DiffusionObjective(Objective):
    """An objective over two diffusion models with a loss of its own, for which nothing of two runs is matched."""

    def __init__(self) -> None:
        super().__init__([])

    @property
    def needs_teacher(self) -> bool:
        """Always: its network is asked."""
        return True

    @abstractmethod
    def losses(self, teacher: DGM, student: DGM, asked: Asked) -> dict[str, Tensor]:
        """Name to term of the loss, shape (), averaged over rows.

        Args:
            teacher: the frozen model.
            student: the model to train.
            asked: what the step is asked for.
        """

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
        """The terms of :meth:`losses`; arguments as for :class:`Objective`."""
        if teacher is None:
            raise MatchError("this objective compares with a teacher, but none was given")
        if batch is not None:
            x = batch.x if x is None else x
            batch_size = len(batch) if batch_size is None else batch_size
        return Loss.of(self.losses(teacher, student, Asked(batch_size, x, progress, generator)))
