"""Straight lines between latents that keep their distance from the origin ([F] Sec. 4.4)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["interpolate_latents"]


def interpolate_latents(u: Tensor, v: Tensor, alpha: Tensor | float) -> Tensor:
    r"""Norm-preserving interpolation between latents ([F] Eq. 16).

    .. math::
        f(u, v, \alpha) = ((1 - \alpha) u + \alpha v)
            \frac{(1 - \alpha) |u| + \alpha |v|}{|(1 - \alpha) u + \alpha v|}

    Between two independent draws of a Gaussian in many dimensions a straight line passes nearer to the origin than any
    draw lies; this one has the norm that the two ends have on average. Where both ends cancel, the direction is not
    defined and the origin is returned.

    Args:
        u: latents, shape (batch, ...); the norm is that of all elements of a row.
        v: others of the same shape.
        alpha: in [0, 1], one for all rows or of shape (batch,): 0 gives ``u`` and 1 gives ``v``.

    Returns:
        Shape (batch, ...).

    >>> round(interpolate_latents(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]]), 0.5).norm().item(), 3)
    2.0
    """
    share = torch.as_tensor(alpha, dtype=u.dtype, device=u.device)
    share = share.expand(len(u)) if share.ndim == 0 else share
    across = share.view(-1, *[1] * (u.ndim - 1))
    straight = (1 - across) * u + across * v
    wanted = (1 - share) * u.flatten(1).norm(dim=1) + share * v.flatten(1).norm(dim=1)
    found = straight.flatten(1).norm(dim=1)
    # Rounding leaves 1e-8 of two opposite latents rather than 0; blown up to full norm it would be a random direction.
    vanishes = found <= 8 * torch.finfo(u.dtype).eps * wanted
    factor = torch.where(vanishes, 0.0, wanted / torch.where(vanishes, 1.0, found))
    return straight * factor.view_as(across)
