"""What every data source gives: rows in three splits, checked once when they are put together."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from limbeck.errors import DataError

__all__ = ["DataSource", "Dataset", "Split", "check_seed", "split_rows"]


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of one split: one tensor per part (images, labels, ...), with the rows in dimension 0.

    A kind of data is a subclass whose fields are tensors; its fields are the parts that a recipe can name as
    ``target`` and ``condition``.
    """

    @property
    def parts(self) -> dict[str, Tensor]:
        """Part name to tensor, shape (rows, ...)."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def take(self, indices: Tensor | Sequence[int]) -> Self:
        """The rows at ``indices``, in that order, as a copy."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return dataclasses.replace(self, **{name: part[index] for name, part in self.parts.items()})


@dataclass(frozen=True, eq=False)
class Dataset(ABC):
    """A data set in three disjoint splits, checked when it is built.

    Attributes:
        name: short name for tables and directories, e.g. ``"digits"``.
        train: rows to fit on, already shuffled.
        validation: rows for choosing settings and for early stopping.
        test: rows for the reported numbers only.
    """

    name: str
    train: Split
    validation: Split
    test: Split

    def __post_init__(self) -> None:
        for title, split in self.splits.items():
            self.check(split, f"data set {self.name!r}, {title} split")

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @abstractmethod
    def check(self, split: Split, where: str) -> None:
        """Check that a split can be trained or measured on.

        Args:
            split: one of the three.
            where: what to call it in a message.

        Raises:
            DataError: names the split and what is wrong with it.
        """

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the bytes, shape and dtype of every tensor: equal only if all rows are equal."""
        digest = hashlib.sha256()
        for split in self.splits.values():
            for tensor in split.parts.values():
                digest.update(f"{tuple(tensor.shape)} {tensor.dtype};".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()


class DataSource(ABC):
    """Where a data set comes from. Subclass it to bring your own.

    A source is a plain class: its constructor stores options and touches no file, :meth:`load` does the work. Give the
    constructor type hints and JSON-able arguments (numbers, text, lists, ``None``), and a recipe can name it:

    .. code-block:: yaml

        data:
          class_path: mypackage.Spirals
          init_args: {rows: 500}

    Split your rows with :func:`split_rows`, which shuffles them first; data sorted by class is a common trap. Raise
    :class:`~limbeck.errors.DataError` with the path and what to do about it when something is wrong with the input.

    >>> from limbeck.data import ImageDataset, ImageSplit
    >>> class Noise(DataSource):
    ...     def __init__(self, rows: int = 10) -> None:
    ...         self.rows = rows
    ...
    ...     def load(self) -> Dataset:
    ...         generator = torch.Generator().manual_seed(0)
    ...         images = torch.rand(self.rows, 1, 4, 4, generator=generator)
    ...         everything = ImageSplit(images, torch.zeros(self.rows, dtype=torch.int64))
    ...         rest, test = split_rows(everything.labels, 0.2, seed=0)
    ...         train, validation = rest[2:], rest[:2]
    ...         parts = [everything.take(rows) for rows in (train, validation, test)]
    ...         return ImageDataset("noise", *parts, classes=("noise",))
    >>> len(Noise(rows=20).load().train)
    14
    """

    @abstractmethod
    def load(self) -> Dataset:
        """Read the data set. Twice the same call gives the same tensors.

        Raises:
            DataError: the data are missing, unreadable, empty or not finite.
        """


def check_seed(seed: int) -> None:
    """Check that a seed of splits and noise is one that NumPy and scikit-learn take.

    Raises:
        DataError: it is negative, or has more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise DataError(f"seed of the data must be a whole number from 0 to {2**32 - 1}, not {seed}.")


def split_rows(labels: Tensor, part: int | float, seed: int, what: str = "part") -> tuple[Tensor, Tensor]:
    """Shuffle row numbers and cut off a part, with the same class proportions on both sides where that is possible.

    Args:
        labels: class index of each row, shape (rows,).
        part: size of the second piece: a share in (0, 1) if a float, a number of rows if an integer.
        seed: fixes the shuffle, from 0 to 2**32 - 1.
        what: what to call the second piece in a message.

    Returns:
        Row numbers of the rest and of the part, both shuffled, int64.

    Raises:
        DataError: one of the two pieces would be empty, or the seed is out of range.

    >>> rest, part = split_rows(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), 2, seed=0)
    >>> len(rest), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])[part].sort().values
    (6, tensor([0, 1]))
    """
    from sklearn.model_selection import train_test_split

    check_seed(seed)
    rows = len(labels)
    count = part if isinstance(part, int) else round(part * rows) if 0 < part < 1 else 0
    if not 0 < count < rows:
        raise DataError(
            f"{what}: cannot cut {part} off {rows} rows: give a share between 0 and 1 or a number of rows below {rows} "
            "that leaves at least one row on either side."
        )
    sizes = torch.unique(labels, return_counts=True)[1]
    # scikit-learn refuses to stratify when a class has a single row or a side has fewer rows than classes.
    possible = int(sizes.min()) >= 2 and min(count, rows - count) >= len(sizes)
    stratify = labels.numpy() if possible else None
    rest, cut = train_test_split(range(rows), test_size=count, random_state=seed, shuffle=True, stratify=stratify)
    return torch.tensor(rest), torch.tensor(cut)
