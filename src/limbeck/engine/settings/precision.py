"""What Lightning's names of precisions mean for tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from limbeck.core.first_parameter import first_parameter

__all__ = ["TRUE_PRECISION", "autocast", "like_weights"]

TRUE_PRECISION = {"64-true": torch.float64, "bf16-true": torch.bfloat16, "16-true": torch.float16}
"""Type of all weights and numbers; the default type where a precision is not listed."""

_MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@contextlib.contextmanager
def autocast(precision: str, device: torch.device) -> Iterator[None]:
    """Run a block as a training step of this precision runs."""
    dtype = _MIXED.get(precision)
    if dtype is None:
        yield
    else:
        with torch.autocast(device.type, dtype):
            yield


def like_weights(model: nn.Module, rows: Tensor, device: torch.device | None = None) -> Tensor:
    """Rows as a model's weights are: in their precision, unless the rows are labels.

    Args:
        model: any.
        rows: any shape.
        device: where to put them; by default they stay where they are.
    """
    dtype = first_parameter(model, rows).dtype if rows.is_floating_point() else None
    return rows.to(device, dtype)
