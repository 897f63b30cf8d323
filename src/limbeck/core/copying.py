"""Copies of models, parts of which somebody else has written."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from limbeck.errors import ModelError, lacks_memory

__all__ = ["copied"]

Model = TypeVar("Model", bound=nn.Module)


def copied(model: Model) -> Model:
    """A copy of a model that shares nothing with it.

    Args:
        model: any model.

    Raises:
        ModelError: it holds something that cannot be copied, such as the weights that an old ``weight_norm`` computes.
    """
    try:
        return copy.deepcopy(model)
    except Exception as error:  # a part may refuse in any way
        if lacks_memory(error):
            raise
        part = [name for name, part in model.named_modules() if not _can_be_copied(part)][-1]
        reason = " ".join(str(error).split()).split(". ")[0]
        raise ModelError(
            f"{type(model).__name__} cannot be copied, because of {f'its part {part!r}' if part else 'an attribute'}: "
            f"{type(error).__name__}: {reason}. Instead of torch.nn.utils.weight_norm use that of "
            "torch.nn.utils.parametrizations, and keep no locks, files or computed tensors in attributes"
        ) from error


def _can_be_copied(part: nn.Module) -> bool:
    try:
        copy.deepcopy(part)
    except Exception:
        return False
    return True
