"""Comparing densities that both models compute exactly."""

from __future__ import annotations

from torch import Tensor
from torch import distributions as D

from limbeck.core.delta import Delta
from limbeck.core.divergence.rows import comparable, describe
from limbeck.core.precision import precise
from limbeck.errors import DivergenceError

__all__ = ["log_ratio"]


def log_ratio(p: D.Distribution, q: D.Distribution, *, clip: float | None = None) -> Tensor:
    r"""How much likelier a row is under the teacher than under the student: :math:`\log t(y) - \log s(y)`.

    Its mean over the teacher's samples is an unbiased estimate of KL(teacher || student), exact in that both densities
    are; over the student's samples, with the sign changed, of KL(student || teacher); over data it is the student's
    negative log-likelihood but for a constant, the first term of [F] Eq. 15.

    Args:
        p: the teacher's log density as a deterministic site, value of shape (batch,), in nats.
        q: the student's.
        clip: upper limit of the result; rows above it get this value and no gradient. ``None`` sets no limit. For
            samples of a teacher with heavier tails than the data.

    Returns:
        Shape (batch,), in nats.

    Raises:
        DivergenceError: a site is random, or not one number per row.

    Example:
        >>> import torch
        >>> log_ratio(Delta(torch.tensor([-1.0, -2.0])), Delta(torch.tensor([-1.5, -9.0])), clip=5.0)
        tensor([0.5000, 5.0000])
    """
    left, right, shape = comparable(p, q)
    if not (isinstance(left, Delta) and isinstance(right, Delta)) or len(shape) != 1:
        raise DivergenceError(
            f"log_ratio compares two log densities, deterministic sites of shape (batch,), not {describe(p)} and "
            f"{describe(q)}: match the site 'log_prob'"
        )
    ratio = precise(left.value) - precise(right.value)  # whose mean over rows half precision would round
    return ratio if clip is None else ratio.clamp(max=clip)
