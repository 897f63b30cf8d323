"""Tables of numbers in three splits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.data.dataset import Dataset, Split
from limbeck.errors import DataError

__all__ = ["TableDataset", "TableSplit"]


@dataclass(frozen=True, eq=False)
class TableSplit(Split):
    """The rows of one split of a table.

    Attributes:
        values: float32, shape (rows, columns).
    """

    values: Tensor


@dataclass(frozen=True, eq=False)
class TableDataset(Dataset):
    """A table of numbers.

    Attributes:
        columns: name of each column, with its unit where it has one.
        mean: what was subtracted from each column; ``None`` if the values are in their own units.
        std: what each column was divided by afterwards, likewise.

    >>> part = TableSplit(torch.zeros(3, 2))
    >>> points = TableDataset("points", part, part, part, ("x", "y"), mean=(3.0, 0.0), std=(2.0, 5.0))
    >>> points.test.parts["values"].shape
    torch.Size([3, 2])
    >>> round(points.log_scale, 4)  # log 2 + log 5
    2.3026
    """

    train: TableSplit
    validation: TableSplit
    test: TableSplit
    columns: tuple[str, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def log_scale(self) -> float:
        """By how much log densities of the values exceed those in the columns' own units, in nats per row."""
        return 0.0 if self.std is None else sum(math.log(scale) for scale in self.std)

    @property
    def unit(self) -> str:
        """A sentence for readers of likelihoods: which units densities refer to."""
        if self.std is None:
            return "Densities are those of the columns in their own units."
        return (
            "Densities are those of standardised columns; in the columns' own units log-likelihoods are "
            f"{abs(self.log_scale):.4f} nats per row {'lower' if self.log_scale >= 0 else 'higher'}."
        )

    @override
    def check(self, split: Split, where: str) -> None:
        """See :class:`Dataset`: shape, dtype, non-finite values."""
        assert isinstance(split, TableSplit)
        values, columns = split.values, len(self.columns)
        if values.ndim != 2 or values.shape[1] != columns or values.dtype != torch.float32:
            raise DataError(
                f"{where}: values are {values.dtype} of shape {tuple(values.shape)}; expected float32 of shape "
                f"(rows, {columns})."
            )
        if not len(values):
            raise DataError(f"{where} is empty: use more rows or a larger share.")
        wrong = ~values.isfinite()
        if wrong.any():
            name = self.columns[int(wrong.any(0).nonzero()[0])]
            raise DataError(
                f"{where}: {int(wrong.sum())} values in {int(wrong.any(1).sum())} of {len(values)} rows are NaN or "
                f"infinite, the first in column {name!r}; drop or repair these rows."
            )
