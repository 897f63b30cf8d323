"""What objectives need of a diffusion model, beyond its graph."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.errors import MatchError

__all__ = ["Denoiser", "Diffusion", "denoiser_of"]


class Diffusion(Protocol):
    """How images are noised: the constants of a diffusion."""

    times: int

    def at(self, t: int | Tensor, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """What is left of the image at a time, and how much noise there is: factors of shape (batch, 1, ...)."""
        ...

    def noised(self, image: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        """An image, in the diffusion's units, at a time; all shapes (batch, ...), ``t`` one time or shape (batch,)."""
        ...

    def image_and_noise(self, told: Tensor, state: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
        """The image and the noise that a network's output stands for; all shapes (batch, ...)."""
        ...

    def aim(self, image: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What a network should tell of a noised image; all shapes (batch, ...)."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """A model whose network can be asked about any noised image, not only those on its sampler's path."""

    schedule: Diffusion
    timesteps: tuple[int, ...]

    def denoise(self, state: Tensor, t: int | Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The image and the noise that the network sees in a state; shapes as ``state``, (batch, ...)."""
        ...

    def network(self, state: Tensor, t: int | Tensor, x: Tensor | None = None) -> Tensor:
        """The network's output as it is, of the same shape."""
        ...


class DenoisingModel(DGM, Denoiser):
    """Both; for type checkers only."""


def denoiser_of(model: DGM, who: str) -> DenoisingModel:
    """The model itself as one that denoises; where its runs are played back from a store, the model that made them.

    Args:
        model: teacher or student.
        who: what to call it in a message.

    Raises:
        MatchError: it has no network that could be asked.
    """
    found = getattr(model, "source", model)
    if not isinstance(found, Denoiser):
        raise MatchError(
            f"this method asks the {who}'s network about noised images, but {type(found).__name__} has no denoise() "
            "and schedule; it is for diffusion models such as limbeck.models.DDIM"
        )
    return cast(DenoisingModel, found)
