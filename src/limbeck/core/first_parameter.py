"""Where a model lives: the device and number type of its weights, told by the first of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["first_parameter"]


def first_parameter(module: nn.Module, otherwise: Tensor | None = None) -> Tensor:
    """The first parameter of a module, for its device and dtype; asked for in every run of a program.

    The same as ``next(module.parameters())`` without the names that this works out on the way, which cost as much as
    a small layer.

    Args:
        module: any.
        otherwise: returned where it has none; by default an empty tensor on the CPU.

    Returns:
        The parameter itself, of any shape.

    Example:
        >>> first_parameter(nn.Sequential(nn.ReLU(), nn.Linear(3, 2))).shape
        torch.Size([2, 3])
        >>> first_parameter(nn.ReLU()).shape
        torch.Size([0])
    """
    pending = [module]
    while pending:
        module = pending.pop()
        for parameter in module._parameters.values():
            if parameter is not None:
                return parameter
        pending.extend(child for child in reversed(module._modules.values()) if child is not None)
    return torch.empty(0) if otherwise is None else otherwise
