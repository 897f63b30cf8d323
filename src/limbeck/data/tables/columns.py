"""Which columns of a table are wanted, and what to say if they cannot be had."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from limbeck.errors import DataError

__all__ = ["chosen_columns", "not_numbers"]


def chosen_columns(
    names: Sequence[str], columns: Sequence[str | int] | None, drop: Sequence[str | int] | None, where: Path
) -> list[int]:
    """Numbers of the columns that are wanted, in the order in which they were asked for.

    Args:
        names: of all columns.
        columns: names or numbers of those to use; by default all.
        drop: those to leave out.
        where: the file, for messages.

    Raises:
        DataError: a column is not there, or a name stands for two; a column that nobody asked for has no name; or
            nothing is left.
    """
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise DataError(f"{where}: more than one column is called {', '.join(map(repr, twice))}; rename them.")
    for name in map(str, [*(columns or ()), *(drop or ())]):
        if name not in names:
            near = difflib.get_close_matches(name, names, cutoff=0.5)
            hint = f"did you mean {', '.join(map(repr, near))}?" if near else f"there are {', '.join(names)}."
            raise DataError(f"{where}: there is no column {name!r}; {hint}")
    wanted = [names.index(str(name)) for name in (names if columns is None else columns)]
    chosen = [index for index in wanted if names[index] not in map(str, drop or ())]
    if not chosen or len(set(chosen)) < len(chosen):
        raise DataError(f"{where}: columns and drop leave no column, or name one twice; there are {', '.join(names)}.")
    if columns is None and any(not names[index] for index in chosen):
        raise DataError(
            f"{where}: a column has no name, as where pandas writes the numbers of the rows; leave it out with "
            'drop: [""], or give it a name.'
        )
    return chosen


def not_numbers(where: Path, column: str, example: str) -> DataError:
    """The error for a column of text, categories or dates.

    Args:
        where: the file.
        column: name.
        example: what is there instead of numbers.
    """
    return DataError(
        f"{where}: column {column!r} is not of numbers ({example}); a density needs numbers, so leave it out with "
        f"drop: [{column}], or name the others with columns."
    )
