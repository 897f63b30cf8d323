"""The device and number type of a model, read from the first of its parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["first_parameter"]


def first_parameter(module: nn.Module, otherwise: Tensor | None = None) -> Tensor:
    """The first parameter of a module, for its device and dtype; looked up in every run of a program.

    The same as ``next(module.parameters())``, but without building the parameters' names, which costs as much as a
    small layer.

    Args:
        module: any.
        otherwise: returned where it has none; by default its first floating-point buffer, as models in closed form
            have, or else an empty tensor on the CPU.

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
        current = pending.pop()
        for parameter in current._parameters.values():
            if parameter is not None:
                return parameter
        pending.extend(child for child in reversed(current._modules.values()) if child is not None)
    if otherwise is not None:
        return otherwise
    return next((buffer for buffer in module.buffers() if buffer.is_floating_point()), torch.empty(0))
