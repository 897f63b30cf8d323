"""A divergence that leaves out the rows on which the two sides are furthest apart."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.distributions import Distribution
from typing_extensions import override

from limbeck.core.divergence.transport import lp
from limbeck.errors import DivergenceError

__all__ = ["Trimmed"]

_Divergence = Callable[[Distribution, Distribution], Tensor]


class Trimmed(nn.Module):
    r"""Another divergence over all rows of a batch but the worst share of them.

    .. math:: d'_b = \frac{B}{B - n} d_b, \quad \text{or } 0 \text{ for the } n = \lceil B \, share \rceil
              \text{ rows with the largest } d_b

    The mean over rows is then the mean over those that are kept. A teacher with heavy tails sometimes draws a row that
    is a billion times too large; untrimmed, such a row is the whole gradient of its step.

    Args:
        share: fraction of the rows that is left out, in [0, 1).
        divergence: what compares two laws, one number per row.

    Raises:
        DivergenceError: the share is outside of its range.

    Example:
        >>> import torch
        >>> from limbeck.core.delta import Delta
        >>> one, two = Delta(torch.zeros(4, 1)), Delta(torch.tensor([[1.0], [2.0], [1e9], [3.0]]))
        >>> Trimmed(0.25)(one, two)
        tensor([1.3333, 2.6667, 0.0000, 4.0000])
    """

    def __init__(self, share: float = 0.02, divergence: _Divergence = lp) -> None:
        super().__init__()
        if not 0.0 <= share < 1.0:
            raise DivergenceError(f"the share of rows to leave out must lie in [0, 1), not {share}")
        self.share = share
        self.divergence = divergence

    @override
    def forward(self, p: Distribution, q: Distribution) -> Tensor:
        """Compare the teacher's law with the student's; shape (batch,).

        Raises:
            DivergenceError: no row would be left.
        """
        rows = self.divergence(p, q)
        count = math.ceil(self.share * len(rows) - 1e-9)  # less a little: 0.07 * 100 is above 7
        if count == len(rows):
            raise DivergenceError(f"a share of {self.share} leaves nothing of {len(rows)} rows; use a larger batch")
        worst = rows.detach().topk(count).indices
        return rows.index_fill(0, worst, 0.0) * (len(rows) / (len(rows) - count))

    @override
    def extra_repr(self) -> str:
        """What tells two of them apart: a run's fingerprint is made of it."""
        return f"share={self.share}, divergence={_name(self.divergence)}"


def _name(divergence: _Divergence) -> str:
    """The divergence by name and settings, the same in every process."""
    if isinstance(divergence, functools.partial):
        return f"{_name(divergence.func)}(*{divergence.args}, **{divergence.keywords})"
    return str(getattr(divergence, "__qualname__", type(divergence).__qualname__))
