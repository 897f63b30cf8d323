"""What is fixed in a flow and not trained, and so must be the same in another that is compared with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from limbeck.models.flows.bijection import Level, Standardize

__all__ = ["same_buffers", "take_constants"]


def take_constants(own: Sequence[Level], others: Sequence[Level]) -> None:
    """Standardise as another flow does.

    Args:
        own: levels of the flow that is changed.
        others: those of the other, as many.
    """
    for level, other in zip(own, others, strict=True):
        for mine, theirs in zip(level.entry, other.entry, strict=False):
            if isinstance(mine, Standardize) and isinstance(theirs, Standardize):
                mine.take(theirs)


def same_buffers(first: nn.Module, second: nn.Module) -> bool:
    """Whether all that is fixed in two flows of one form agrees: constants, permutations, orders."""
    return all(torch.equal(own, other) for own, other in zip(first.buffers(), second.buffers(), strict=True))
