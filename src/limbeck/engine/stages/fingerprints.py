"""Fingerprints: a few digits that change when anything changes that a result depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping
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
    """Hash of every weight and buffer, bit for bit, and of what else a module keeps in its state.

    Quantised layers keep numbers and packed tuples there, and modules of one's own whatever their extra state is.
    """
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        for part in _parts(name, value):
            digest.update(part)
    return digest.hexdigest()[:16]


def _parts(name: str, value: Any) -> Iterator[bytes | memoryview]:
    """What identifies an entry of a state: of a tensor name, shape, type and bytes; of a container its items."""
    if isinstance(value, Tensor):
        yield f"{name}{tuple(value.shape)}{value.dtype}".encode()
        if value.is_quantized:  # the stored integers, and with scale and zero point what they stand for
            yield _bytes(value.int_repr())
            yield _bytes(value.dequantize())
        else:
            yield _bytes(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _parts(f"{name}[{key!r}]", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _parts(f"{name}[{index}]", item)
    elif value is None or isinstance(value, bool | int | float | str | bytes | torch.dtype):
        yield f"{name}={value!r}".encode()
    else:
        yield f"{name}={type(value).__qualname__}".encode()
        yield pickle.dumps(value, protocol=4)


def describe_tensor(tensor: Tensor) -> list[Any]:
    """A tensor as plain values for fingerprints, bit for bit: hash, shape, type."""
    return [hashlib.sha256(_bytes(tensor)).hexdigest(), list(tensor.shape), str(tensor.dtype)]


def _bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, without a copy if it is contiguous and on the CPU: data can be large."""
    found: memoryview = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
    return found
