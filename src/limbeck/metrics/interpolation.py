"""Ways from one latent to another that keep the distance from the origin ([F] Sec. 4.4, [D] Sec. 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["interpolate_latents", "spherical_interpolation"]


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
    share = _per_row(alpha, u)
    straight = (1 - share) * u + share * v
    wanted = (1 - share) * _norm(u) + share * _norm(v)
    found = _norm(straight)
    # Rounding leaves 1e-8 of two opposite latents rather than 0; blown up to full norm it would be a random direction.
    vanishes = found <= 8 * torch.finfo(u.dtype).eps * wanted
    return straight * torch.where(vanishes, 0.0, wanted / torch.where(vanishes, 1.0, found))


def spherical_interpolation(u: Tensor, v: Tensor, alpha: Tensor | float) -> Tensor:
    r"""Spherical linear interpolation between latents, row by row, as [D] Sec. 4.2 goes from one noise to another.

    .. math::
        f(u, v, \alpha) = \frac{\sin((1 - \alpha) \theta)}{\sin \theta} u + \frac{\sin(\alpha \theta)}{\sin \theta} v,
        \qquad \cos \theta = \frac{u \cdot v}{|u| |v|}

    Ends of equal norm are joined by the arc of their circle around the origin, at constant speed. Ends of one direction
    are joined by the straight line, which is the limit. So are ends of opposite directions, where no arc is
    distinguished: that line passes through the origin.

    Args:
        u: latents, shape (batch, ...); norm and angle are those of all elements of a row.
        v: others of the same shape.
        alpha: in [0, 1], one for all rows or of shape (batch,): 0 gives ``u`` and 1 gives ``v``.

    Returns:
        Shape (batch, ...).

    References:
        K. Shoemake, "Animating Rotation with Quaternion Curves", 1985.

    >>> spherical_interpolation(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]]), 1 / 3)
    tensor([[1.7321, 1.0000]])
    """
    share = _per_row(alpha, u)
    tiny = torch.finfo(u.dtype).tiny
    first, second = u / _norm(u).clamp(min=tiny), v / _norm(v).clamp(min=tiny)
    # Half the angle from the diagonals of a rhombus: the arc cosine would lose half the digits of a small angle.
    angle = 2 * torch.atan2(_norm(first - second), _norm(first + second))
    sine = angle.sin()
    straight = sine.abs() <= 8 * torch.finfo(u.dtype).eps
    sine = torch.where(straight, 1.0, sine)
    start = torch.where(straight, 1 - share, ((1 - share) * angle).sin() / sine)
    end = torch.where(straight, share, (share * angle).sin() / sine)
    return start * u + end * v


def _per_row(alpha: Tensor | float, like: Tensor) -> Tensor:
    """Shares of the way, one for each row, of a shape that broadcasts with the rows."""
    share = torch.as_tensor(alpha, dtype=like.dtype, device=like.device)
    share = share.expand(len(like)) if share.ndim == 0 else share
    return share.view(-1, *[1] * (like.ndim - 1))


def _norm(rows: Tensor) -> Tensor:
    """Norm of each row, of a shape that broadcasts with the rows."""
    found: Tensor = rows.flatten(1).norm(dim=1)
    return found.view(-1, *[1] * (rows.ndim - 1))
