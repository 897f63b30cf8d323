"""Arithmetic in no less precision than a result needs, whatever the precision of the features."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["precise", "product"]


def precise(feature: Tensor) -> Tensor:
    """At least single precision: the squares of half floats overflow, and their sums round.

    Args:
        feature: any shape.

    Returns:
        The feature itself where it is in single precision or better, else a copy of the same shape in float32.
    """
    return feature.to(torch.promote_types(feature.dtype, torch.float32))


def product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product in the precision of its arguments, also under autocast.

    For products whose small differences matter, which autocast would round away.

    Args:
        a: shape (..., n, k).
        b: shape (..., k, m).

    Returns:
        Shape (..., n, m).
    """
    with torch.autocast(a.device.type, enabled=False):
        return a @ b
