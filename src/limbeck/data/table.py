"""Tables of numbers in three splits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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

    >>> part = TableSplit(torch.zeros(3, 2))
    >>> TableDataset("points", part, part, part, columns=("x", "y")).test.parts["values"].shape
    torch.Size([3, 2])
    """

    train: TableSplit
    validation: TableSplit
    test: TableSplit
    columns: tuple[str, ...]

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
