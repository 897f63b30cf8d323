"""Fingerprints: a few digits that change when anything changes that a result depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["describe_tensor", "fingerprint", "weights_fingerprint"]


def fingerprint(**parts: Any) -> str:
    """Sixteen hexadecimal digits that change when any part changes.

    Args:
        parts: JSON values and dataclasses of them.

    Example:
        >>> fingerprint(a=1) == fingerprint(a=1), fingerprint(a=1) == fingerprint(a=2)
        (True, False)
    """

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        raise TypeError(f"{value!r} cannot be part of a fingerprint")

    text = json.dumps(parts, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def weights_fingerprint(model: nn.Module) -> str:
    """Hash of every weight and buffer, bit for bit."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def describe_tensor(tensor: Tensor) -> list[Any]:
    """A tensor as plain values for fingerprints, bit for bit: hash, shape, type."""
    return [hashlib.sha256(_bytes(tensor)).hexdigest(), list(tensor.shape), str(tensor.dtype)]


def _bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, without a copy if it is contiguous and on the CPU: data can be large."""
    found: memoryview = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
    return found
