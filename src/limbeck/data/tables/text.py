"""Reading tables from text: names, separators, missing cells, and columns that are not of numbers."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.data.tables.columns import chosen_columns, not_numbers
from limbeck.data.tables.noise import Array
from limbeck.errors import DataError

__all__ = ["read_text"]

_MISSING = ("", "?", "na", "n/a", "nan", "null", "none")
_BLOCK = 50_000  # rows at once


def read_text(
    path: Path,
    columns: Sequence[str | int] | None,
    drop: Sequence[str | int] | None,
    header: bool | None,
    delimiter: str | None,
    *,
    ragged: bool,
) -> tuple[Array, tuple[str, ...]]:
    """Numbers, shape (rows, columns), and names of the columns; see :func:`limbeck.data.tables.files.read_table`."""
    with path.open(newline="", encoding="utf-8-sig") as handle:
        first_line = next((line for line in handle if line.strip()), "")
        handle.seek(0)
        rows = _rows(handle, delimiter or max(",;\t", key=first_line.count))
        first = next(rows, None)
        if first is None:
            raise DataError(f"{path} is empty.")
        named = (
            header
            if header is not None
            else not any(_is_float(cell) and cell.strip().lower() not in _MISSING for cell in first)
        )
        names = [cell.strip() for cell in first] if named else [str(index) for index in range(len(first))]
        if not named:
            rows = itertools.chain([first], rows)
        elif ragged:
            head = list(itertools.islice(rows, 1))
            names = names[: min([len(names), *map(len, head)])]
            rows = (row[: len(names)] for row in itertools.chain(head, rows))
        chosen = chosen_columns(names, columns, drop, path)
        parts, done = [], 0
        while block := list(itertools.islice(rows, _BLOCK)):
            for number, row in enumerate(block, done + 1):
                if len(row) != len(names):
                    raise DataError(
                        f"{path}: row {number} has {len(row)} cells, but there are {len(names)} columns; repair it, or "
                        "say how cells are separated with delimiter."
                    )
            cells = list(zip(*block, strict=True))
            parts.append(np.column_stack([_numbers(cells[index], path, names[index], done) for index in chosen]))
            done += len(block)
    values = np.concatenate(parts) if parts else np.empty((0, len(chosen)))
    return values, tuple(names[index] for index in chosen)


def _rows(handle: Any, delimiter: str) -> Iterator[list[str]]:
    return (row for row in csv.reader(handle, delimiter=delimiter) if row)


def _is_float(cell: str) -> bool:
    try:
        _floats([cell])
    except ValueError:
        return False
    return True


def _floats(cells: Sequence[str]) -> Array:
    """As Python reads them, but for underscores between digits: 1_5 is a label, not 15."""
    if "_" in "".join(cells):
        raise ValueError
    return np.array(list(map(float, cells)))


def _numbers(cells: Sequence[str], where: Path, column: str, before: int) -> Array:
    try:
        return _floats(cells)
    except ValueError:
        kept = ["nan" if cell.strip().lower() in _MISSING else cell for cell in cells]
    try:
        return _floats(kept)
    except ValueError:
        row, cell = next((row, cell) for row, cell in enumerate(kept, before + 1) if not _is_float(cell))
        raise not_numbers(where, column, f"{cell!r} in row {row}") from None
