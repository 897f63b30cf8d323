"""Several sites as one, for divergences that look at more than one at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.distributions import Distribution
from typing_extensions import override

__all__ = ["Joint"]


class Joint(Distribution):
    """The laws of several sites of one model, side by side.

    A match whose name joins sites with ``&``, as in ``"h[0]&h[1]"``, gives its divergence a ``Joint`` of the teacher's
    sites and one of the student's: the flow from one layer to the next is a function of two features, and a loss may
    need the labels beside the prediction. It holds the laws, but not how they depend on each other.

    Args:
        laws: at least one, dimension 0 of each the batch.

    Example:
        >>> from limbeck.core.delta import Delta
        >>> pair = Joint([Delta(torch.zeros(4, 3)), Delta(torch.ones(4, 5))])
        >>> len(pair.laws), pair.batch_shape
        (2, torch.Size([4]))
    """

    arg_constraints = {}  # noqa: RUF012  (the base class declares it, and not as a ClassVar)

    def __init__(self, laws: Sequence[Distribution]) -> None:
        self.laws = tuple(laws)
        first = self.laws[0]
        rows = (first.batch_shape or first.event_shape)[:1]
        super().__init__(torch.Size(rows), torch.Size(), validate_args=False)

    @override
    def __repr__(self) -> str:
        return f"Joint({', '.join(map(repr, self.laws))})"
