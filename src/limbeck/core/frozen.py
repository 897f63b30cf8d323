"""Running a model so that nothing about it changes: no gradients, its mode is restored, and no statistics move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["frozen"]


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Run a model without gradients and in eval mode, and leave the mode of each of its modules as it was."""
    # model.modules() also builds names and remembers which modules it has seen, which costs several times as much.
    modules: list[nn.Module] = [model]
    for module in modules:  # grows as it goes
        if module._modules:
            modules.extend(child for child in module._modules.values() if child is not None)
    training = [module for module in modules if module.training]
    if training:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
