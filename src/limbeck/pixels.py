"""Stored pixels as numbers: bytes become floats in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["bytes_to_floats"]


def bytes_to_floats(values: Tensor) -> Tensor:
    """``uint8`` values, which are pixels, divided by 255 as float32; anything else as it is.

    Args:
        values: of any shape and type.

    Returns:
        Of the same shape.

    >>> bytes_to_floats(torch.tensor([0, 51, 255], dtype=torch.uint8)), bytes_to_floats(torch.tensor([3]))
    (tensor([0.0000, 0.2000, 1.0000]), tensor([3]))
    """
    return values.float().div_(255.0) if values.dtype == torch.uint8 else values
