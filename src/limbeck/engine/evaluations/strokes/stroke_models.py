"""What the measures of drawings ask of a model: drawings, and a bound on their likelihood."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.core.graph import DGM
from limbeck.errors import ModelError

__all__ = ["HasLogLikelihood", "draw", "drawings_of"]

_ROWS = 250


@runtime_checkable
class HasLogLikelihood(Protocol):
    """A model that bounds the log-likelihood of drawings from below."""

    def log_likelihood(
        self, y: Tensor, *, particles: int, proposal: Literal["posterior"], generator: torch.Generator | None = None
    ) -> Tensor:
        """The bound in nats, shape (batch,), of drawings of shape (batch, length, 4), proposing from the encoder."""


def drawings_of(model: DGM, targets: dict[str, Tensor]) -> Tensor:
    """A model's targets as drawings; those of a fixed length never end.

    Args:
        model: what drew them.
        targets: as of :meth:`limbeck.DGM.sample`.

    Returns:
        float32, shape (rows, length, 4): dx, dy, pen, end.

    Raises:
        ModelError: the targets are no drawings.
    """
    y = model.join_targets(targets).float()
    if y.ndim != 3 or y.shape[2] not in (3, 4):
        raise ModelError(f"{type(model).__name__} draws {tuple(y.shape)}; expected (batch, length, 3 or 4)")
    return F.pad(y, (0, 4 - y.shape[2]))


def draw(model: DGM, rows: int, generator: torch.Generator) -> Tensor:
    """Fresh drawings of a model, shape (rows, length, 4), a few hundred at a time."""
    parts = [min(_ROWS, rows - start) for start in range(0, rows, _ROWS)]
    return torch.cat([drawings_of(model, model.sample(part, generator=generator)) for part in parts])
