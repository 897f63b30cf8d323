"""From numbers to a table data set: splitting, noise, standardising, and the checks on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from limbeck.data.tables.noise import Array
from limbeck.data.tables.table import TableDataset, TableSplit
from limbeck.errors import DataError

__all__ = ["build_table", "cut_off", "cut_rows", "drop_missing", "moments"]

_STEPS = 1000  # that float32 must resolve within a column's deviation


def cut_off(
    values: npt.NDArray[Any], part: int | float, what: str, where: str
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The rest, and the last rows as a split of their own.

    Args:
        values: rows in random order, shape (rows, columns).
        part: size of the split: a share, rounded down, if a float, a number of rows if an integer.
        what: the split's name.
        where: what to call the table in a message.

    Raises:
        DataError: one of the two would be empty.
    """
    count = part if isinstance(part, int) else int(part * len(values)) if 0 < part < 1 else 0
    if not 0 < count < len(values):
        raise DataError(
            f"{where}: {what} rows ({part}) cannot be cut off {len(values)} rows so that both have some; use more "
            f"rows, or another size of {what}."
        )
    return values[: len(values) - count], values[len(values) - count :]


def cut_rows(
    values: npt.NDArray[Any], test: int | float, validation: int | float, where: str
) -> dict[str, npt.NDArray[Any]]:
    """The last rows are for testing, and the last of the rest for validation (Papamakarios et al. 2017).

    Args:
        values: rows in random order, shape (rows, columns).
        test: a share (float) or a number of rows (int).
        validation: likewise, out of what testing leaves.
        where: what to call the table in a message.

    Raises:
        DataError: a split would be empty.

    >>> {name: len(part) for name, part in cut_rows(np.zeros((1000, 2)), 0.1, 0.1, "zeros").items()}
    {'train': 810, 'validation': 90, 'test': 100}
    """
    rest, tested = cut_off(values, test, "test", where)
    train, validated = cut_off(rest, validation, "validation", where)
    return {"train": train, "validation": validated, "test": tested}


def drop_missing(
    values: npt.NDArray[Any], columns: Sequence[str], missing: Literal["raise", "drop"], where: str
) -> npt.NDArray[Any]:
    """Rows without NaN or infinite values.

    Args:
        values: shape (rows, columns).
        columns: names.
        missing: whether to refuse such rows or to leave them out.
        where: what to call the table in a message.

    Raises:
        DataError: there are such rows and they are refused, or no other rows.
    """
    good = np.isfinite(values)
    whole = good.all(axis=1)
    if whole.all():
        return values
    row = int(np.argmin(whole))
    count = int((~whole).sum())
    if missing == "raise" or count == len(values):
        column = columns[int(np.argmin(good[row]))]
        raise DataError(
            f"{where}: {count} of {len(values)} rows have values that are missing, NaN or infinite, the first in row "
            f"{row + 1}, column {column!r}; leave such rows out with missing: drop, or columns with drop."
        )
    kept: npt.NDArray[Any] = values[whole]
    return kept


def moments(*parts: npt.NDArray[Any], ddof: int = 0) -> tuple[Array, Array]:
    """Mean and standard deviation of each column over all parts, each of shape (columns,)."""
    values = np.concatenate(parts).astype(np.float64)
    return values.mean(axis=0), values.std(axis=0, ddof=ddof)


def build_table(
    name: str,
    splits: Mapping[str, npt.NDArray[Any]],
    columns: Sequence[str],
    *,
    standardized: tuple[Array, Array] | None = None,
    before: tuple[Array, Array] | None = None,
) -> TableDataset:
    """Standardise, check and round to float32.

    Args:
        name: of the data set.
        splits: train, validation, test, each of shape (rows, columns).
        columns: names.
        standardized: mean and deviation with which to standardise now; each of shape (columns,).
        before: those with which it was done before.

    Raises:
        DataError: a column is constant among the training rows, or float32 cannot hold it.
    """
    spread = splits["train"].astype(np.float64).std(axis=0)
    steady = [column for column, values in zip(columns, splits["train"].T, strict=True) if np.ptp(values) == 0]
    if steady:
        raise DataError(
            f"{name}: column {', '.join(map(repr, steady))} has one value in all {len(splits['train'])} training rows: "
            f"its density would be infinite; leave it out with drop: [{', '.join(steady)}], or give it noise."
        )
    mean, std = standardized or (np.zeros(len(columns)), np.ones(len(columns)))
    for index, column in enumerate(columns):
        step = float(np.spacing(np.float32(np.abs(splits["train"][:, index] - mean[index]).max())))
        if step * _STEPS > spread[index]:
            raise DataError(
                f"{name}: column {column!r} varies by {spread[index]:.3g}, but float32 keeps values of its size in "
                f"steps of {step:.3g}; set standardize: true, or subtract an offset from it."
            )
    parts = {
        split: TableSplit(torch.from_numpy(((splits[split] - mean) / std).astype(np.float32)))
        for split in ("train", "validation", "test")
    }
    if before is not None:
        mean, std = mean * before[1] + before[0], std * before[1]
    known = standardized is not None or before is not None
    return TableDataset(
        name, parts["train"], parts["validation"], parts["test"], tuple(columns),
        mean=tuple(mean.tolist()) if known else None, std=tuple(std.tolist()) if known else None,
    )  # fmt: skip
