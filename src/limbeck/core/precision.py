"""Arithmetic in no less precision than a result needs, whatever the precision of the features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from typing_extensions import override

__all__ = ["Precise", "precise", "product"]


def precise(feature: Tensor) -> Tensor:
    """At least single precision: the squares of half floats overflow, and their sums round; bytes have no differences.

    Args:
        feature: any shape.

    Returns:
        The feature itself where it is in single precision or better, else a copy of the same shape in float32.
    """
    dtype = feature.dtype
    if dtype is torch.float32 or dtype is torch.float64:  # the usual case, at every site of every step
        return feature
    return feature.to(torch.promote_types(dtype, torch.float32))


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


class Precise(nn.Module):
    """A module whose numbers stay in at least single precision where the models beside it go to half.

    bfloat16 cannot count beyond 256, and torch solves no equations in half precision.
    """

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Torch's way to move and cast a module."""

        def kept(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            if not moved.is_floating_point() or precise(moved) is moved:
                return moved
            return tensor.to(moved.device, torch.float32)

        super()._apply(kept, recurse)  # type: ignore[no-untyped-call]
        return self
