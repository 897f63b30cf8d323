"""How recorded pairs are laid out: arrays of rows, in pages that share a seed, in files of whole pages."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import torch
from torch import Tensor

__all__ = ["PairDtype", "PairField", "PairLayout", "decode", "encode"]

PairDtype = Literal["uint8", "float16", "float32"]

_DTYPES = {"uint8": torch.uint8, "float16": torch.float16, "float32": torch.float32}
_LEVELS = 255


def encode(values: Tensor, dtype: PairDtype) -> Tensor:
    """Numbers as they are stored.

    Args:
        values: any shape; for ``"uint8"`` images in [0, 1], which are clamped to it and rounded, not truncated.
        dtype: how to store them.

    Returns:
        The same shape.

    Example:
        >>> encode(torch.tensor([-0.2, 0.499 / 255, 0.501 / 255, 1.0]), "uint8")
        tensor([  0,   0,   1, 255], dtype=torch.uint8)
    """
    if dtype == "uint8":
        return values.clamp(0, 1).mul(_LEVELS).round().to(torch.uint8)
    return values.to(_DTYPES[dtype])


def decode(stored: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse of :func:`encode`, as floats of a type.

    Args:
        stored: any shape.
        dtype: of the result.
    """
    if stored.dtype != torch.uint8:
        return stored.to(dtype)
    return stored.to(torch.promote_types(dtype, torch.float32)).div_(_LEVELS).to(dtype)


@dataclass(frozen=True)
class PairField:
    """One array of a store.

    Attributes:
        name: of the site that it records.
        shape: of one row.
        dtype: how its numbers are stored.
    """

    name: str
    shape: tuple[int, ...]
    dtype: PairDtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return torch.Size(self.shape).numel() * _DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class PairLayout:
    """What a store holds; the number of rows is not part of it, so a store can grow.

    Attributes:
        key: fingerprint of all that the rows depend on.
        page_rows: rows that share one seed.
        shard_rows: rows of one file, whole pages.
        fields: the arrays.
        details: whatever else the writer must find again, JSON values.
    """

    key: str
    page_rows: int
    shard_rows: int
    fields: tuple[PairField, ...]
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of all arrays."""
        return sum(part.row_bytes for part in self.fields)

    def to_json(self) -> str:
        """As text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError, TypeError, KeyError: the text is not a layout.
        """
        record = json.loads(text)
        fields = tuple(PairField(part["name"], tuple(part["shape"]), part["dtype"]) for part in record.pop("fields"))
        return cls(fields=fields, **record)
