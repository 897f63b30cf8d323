"""Whether a tensor was changed in place since it was looked at."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["changes"]


def changes(tensor: Tensor) -> int:
    """How often a tensor was changed in place; in compiled code and in inference mode, where torch does not tell, 0.

    >>> x = torch.zeros(2)
    >>> before = changes(x)
    >>> changes(x.relu_()) - before
    1
    """
    if torch.compiler.is_compiling() or tensor.is_inference():
        return 0
    return tensor._version
