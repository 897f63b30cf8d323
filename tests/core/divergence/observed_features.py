"""Features of two models, and a VID between them, for tests against formulas written out."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.core.delta import Delta
from limbeck.divergence import VID
from tests.features import normal

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
LAWS = ["gaussian", "student-t", "mixture"]


def made(template: VID, *shapes: tuple[int, ...], batch: int = 4, seed: int = 0) -> tuple[VID, Tensor, Tensor]:
    """Sized, with variances and weights that differ between channels."""
    theirs, own = normal(shapes, seed, batch)
    torch.manual_seed(seed)
    divergence = template.fitted(Delta(theirs), Delta(own))
    with torch.no_grad():
        for parameter in divergence.undecayed():
            parameter.add_(torch.rand_like(parameter))
    return divergence, theirs, own


def pair(*shapes: tuple[int, ...], batch: int = 3) -> list[Tensor]:
    return normal(shapes, 1, batch)


def softmax(logits: Tensor) -> Tensor:
    return logits.exp() / logits.exp().sum(1, keepdim=True)
