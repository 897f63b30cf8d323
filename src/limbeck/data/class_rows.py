"""A few rows of every class: what a student of little data learns from ([V] Sec. 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.errors import DataError

__all__ = ["take_per_class"]


def take_per_class(labels: Tensor, count: int, seed: int, names: Sequence[str] = ()) -> Tensor:
    """Choose the same number of rows of each class at random: the M of [V] Table 1.

    With one seed, the rows of a smaller count are among those of a larger one.

    Args:
        labels: class of each row, int64 of shape (rows,).
        count: rows of each class.
        seed: fixes the choice.
        names: of the classes, for messages.

    Returns:
        Row numbers in ascending order, int64, ``count`` for each class that occurs.

    Raises:
        DataError: the count is not positive, or a class has fewer rows.

    Example:
        >>> labels = torch.tensor([0, 1, 0, 1, 1, 0])
        >>> rows = take_per_class(labels, 2, seed=0)
        >>> labels[rows].bincount()
        tensor([2, 2])
    """
    if count < 1:
        raise DataError(f"the rows of each class must be at least 1, not {count}")
    classes, sizes = torch.unique(labels, return_counts=True)
    counted = zip(classes.tolist(), sizes.tolist(), strict=True)
    short = [f"class {_described(number, names)} has {size:,}" for number, size in counted if size < count]
    if short:
        more = f" and {len(short) - 3} more" if len(short) > 3 else ""
        raise DataError(
            f"{count:,} rows of each class were asked for, but {', '.join(short[:3])}{more}; ask for at most "
            f"{int(sizes.min()):,}"
        )
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = labels[order]
    chosen = [order[shuffled == name][:count] for name in classes]
    return torch.cat(chosen).sort().values if chosen else order


def _described(number: int, names: Sequence[str]) -> str:
    name = names[number] if number < len(names) else str(number)
    return name if name == str(number) else f"{number} ({name})"
