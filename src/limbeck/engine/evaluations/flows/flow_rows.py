"""Exact log densities and samples of many rows, some thousands at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.errors import ModelError

__all__ = ["ExactDensity", "Invertible", "drawn_rows", "exact_density", "log_densities"]

_CHUNK = 4096  # rows at a time: the memory of a pass does not grow with the table


@runtime_checkable
class ExactDensity(Protocol):
    """What a model needs besides being a :class:`~limbeck.DGM`, as every :class:`~limbeck.models.Flow` has."""

    def log_prob(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        """Log density of rows of shape (batch, ...), in nats, shape (batch,)."""
        ...


@runtime_checkable
class Invertible(Protocol):
    """A model whose two programs are inverses of each other, as those of every :class:`~limbeck.models.Flow`."""

    def encode(self, y: Tensor, x: Tensor | None = None) -> tuple[Tensor, ...]:
        """The latents of rows of shape (batch, ...), each of shape (batch, ...)."""
        ...

    def decode(self, latents: Sequence[Tensor], x: Tensor | None = None) -> Tensor:
        """The rows of latents, shape (batch, ...)."""
        ...


@torch.no_grad()
def log_densities(model: DGM, rows: Tensor) -> Tensor:
    """Log densities of many rows, some thousands at a time.

    Args:
        model: in eval mode.
        rows: shape (rows, ...).

    Returns:
        In nats, float64, shape (rows,); not finite where the model's are not.

    Raises:
        ModelError: the model has no exact density, or is one of rows of another shape.
    """
    exact, dtype = exact_density(model), first_parameter(model).dtype
    try:
        return torch.cat([exact.log_prob(part.to(dtype)).double() for part in torch.split(rows, _CHUNK)])
    except RuntimeError as error:
        raise ModelError(
            f"{type(model).__name__} cannot score rows of shape {tuple(rows.shape[1:])}: {error}; a model fits the "
            "data it was made for only, so check features, and which data are given"
        ) from error


@torch.no_grad()
def drawn_rows(model: DGM, rows: int, seed: int, temperature: float = 1.0) -> Tensor:
    """Samples of a model, some thousands at a time; not finite where the model's are not.

    Args:
        model: in eval mode.
        rows: how many.
        seed: fixes the noise.
        temperature: scales the noise of the latents.

    Returns:
        Shape (rows, ...).
    """
    generator = torch.Generator().manual_seed(seed)
    parts = [
        model.sample(len(part), generator=generator, temperature=temperature)
        for part in torch.split(torch.arange(rows), _CHUNK)
    ]
    return torch.cat([model.join_targets(part) for part in parts])


def exact_density(model: DGM) -> ExactDensity:
    """The model, if it has an exact density.

    Raises:
        ModelError: it does not.
    """
    if not isinstance(model, ExactDensity):
        raise ModelError(
            f"{type(model).__name__} has no exact density; give it log_prob(y, x=None), as limbeck.models.Flow has"
        )
    return model
