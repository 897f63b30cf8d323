"""What objectives need of a diffusion model, beyond its graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.core.stand_in import real_model
from limbeck.errors import MatchError

__all__ = ["Denoiser", "Diffusion", "check_diffusion", "denoiser_of"]


class Diffusion(Protocol):
    """How images are noised: the constants of a diffusion."""

    times: int

    def at(self, t: int | Tensor, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """What is left of the image at a time, and how much noise there is: factors of shape (batch, 1, ...)."""
        ...

    def noised(self, image: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        """An image, in the diffusion's units, at a time; all shapes (batch, ...), ``t`` one time or shape (batch,)."""
        ...

    def image_and_noise(self, prediction: Tensor, state: Tensor, t: int | Tensor, /) -> tuple[Tensor, Tensor]:
        """The image and the noise that a network's output in a state stands for; all shapes (batch, ...)."""
        ...

    def aim(self, image: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What a network should predict for a noised image; all shapes (batch, ...)."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """A model whose network can be evaluated on any noised image, not only on those along its sampler's path."""

    schedule: Diffusion
    timesteps: tuple[int, ...]

    def denoise(self, state: Tensor, t: int | Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The image and the noise that the network sees in a state; shapes as ``state``, (batch, ...)."""
        ...

    def network(self, state: Tensor, t: int | Tensor, x: Tensor | None = None) -> Tensor:
        """The network's output as it is, of the same shape."""
        ...


class DenoisingModel(DGM, Denoiser):
    """A model that is both; for type checkers only."""


def denoiser_of(model: DGM, who: str) -> DenoisingModel:
    """The model, or the real one behind a stand-in, as one that denoises.

    Args:
        model: teacher or student.
        who: what to call it in a message.

    Raises:
        MatchError: it has no such network.
    """
    found = real_model(model)
    if not isinstance(found, Denoiser):
        raise MatchError(
            f"this method asks the {who}'s network about noised images, but {type(found).__name__} has no denoise() "
            "and schedule; it is for diffusion models such as limbeck.models.DDIM"
        )
    return cast(DenoisingModel, found)


def check_diffusion(teacher: DenoisingModel, student: DenoisingModel, times: Iterable[int]) -> None:
    """Refuse a student that noises images in another way than its teacher: it would be shown states it never meets.

    What the two networks predict for a state, its noise or its image, may differ.

    Args:
        teacher: whose states the student is shown.
        student: the model to train.
        times: those of the states.

    Raises:
        MatchError: the two diffusions differ in their number of times, or in how much of the image is left at a time.
    """
    theirs, own, like = teacher.schedule, student.schedule, torch.empty(0)
    if own.times != theirs.times:
        raise MatchError(
            f"the student's diffusion has {own.times} times and the teacher's {theirs.times}; give the student the "
            "scheduler of the teacher"
        )
    for t in times:
        left, kept = float(theirs.at(t, like)[0]), float(own.at(t, like)[0])
        if abs(left - kept) > _SAME:
            raise MatchError(
                f"at time {t} the teacher's diffusion leaves {left:.4g} of the image and the student's {kept:.4g}; "
                "give the student the scheduler of the teacher"
            )


_SAME = 1e-4  # of a unit: one schedule may be given by its law or by numbers
