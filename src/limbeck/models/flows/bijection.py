"""What flows are made of: invertible steps that know the volume they change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

__all__ = ["Bijection", "Level", "Split", "Standardize"]


class Bijection(nn.Module, ABC):
    """An invertible map of a row to one of as many elements."""

    @abstractmethod
    @override
    def forward(self, h: Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From data towards latents.

        Args:
            h: shape (batch, ...).
            x: conditioning input, shape (batch, ...), if the flow has one.

        Returns:
            The image, shape (batch, ...), and the log absolute determinant of the Jacobian, shape (batch,) or ().
        """

    @abstractmethod
    def inverse(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        """From latents towards data: the inverse of :meth:`forward`, shapes as there."""

    def adapt(self, h: Tensor, x: Tensor | None = None) -> None:
        """Set constants that depend on the data, from rows as this step sees them; by default there are none.

        Args:
            h: shape (rows, ...).
            x: conditioning input, shape (rows, ...), if the flow has one.
        """


class Split(nn.Module, ABC):
    """The end of a level: one part goes on, the other leaves as a latent that is standard normal given the first."""

    @abstractmethod
    @override
    def forward(self, h: Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what goes on, the latent, and the log-determinant of the latent's standardisation, shape (batch,)."""

    @abstractmethod
    def inverse(self, h: Tensor, u: Tensor, x: Tensor | None = None) -> Tensor:
        """Both parts together again, from what went on and the latent."""


class Level(nn.Module):
    """A stretch of a flow on which the shape stays.

    Args:
        steps: the steps that are counted, compared and mapped from teacher to student.
        entry: maps in front of them that are not counted: rearrangements, fixed scales.
        split: how the level ends; ``None`` in the last.
    """

    def __init__(
        self, steps: list[Bijection], entry: list[Bijection] | None = None, split: Split | None = None
    ) -> None:
        super().__init__()
        self.entry = nn.ModuleList(entry or [])
        self.steps = nn.ModuleList(steps)
        self.split = split


class Standardize(Bijection):
    """Subtracts the mean of the data and divides by their standard deviation, both kept with the model.

    Likelihoods of the flow stay those of the data in their own units.

    Args:
        sizes: number of columns; or the sizes of a row of more dimensions.
    """

    shift: Tensor
    scale: Tensor
    taken: Tensor

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(sizes))
        self.register_buffer("scale", torch.ones(sizes))
        self.register_buffer("taken", torch.tensor(False))
        self.register_load_state_dict_pre_hook(_not_taken_by_default)  # type: ignore[no-untyped-call]

    def take(self, other: Standardize) -> None:
        """Standardise as another does, whatever the data that are shown later."""
        self.shift.copy_(other.shift)
        self.scale.copy_(other.scale)
        self.taken.fill_(True)

    @override
    def adapt(self, h: Tensor, x: Tensor | None = None) -> None:
        """Take mean and standard deviation of each column; a constant column keeps the scale 1."""
        if self.taken:
            return
        deviation, mean = torch.std_mean(h, 0, correction=0)
        self.shift.copy_(mean)
        self.scale.copy_(torch.where(deviation > 0, deviation, 1.0))

    @override
    def forward(self, h: Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (h - self.shift) / self.scale, -self.scale.log().sum()

    @override
    def inverse(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        return h * self.scale + self.shift


def _not_taken_by_default(step: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Files of earlier versions do not say."""
    state.setdefault(f"{prefix}taken", torch.tensor(False))
