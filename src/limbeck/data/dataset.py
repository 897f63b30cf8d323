"""What every data source gives: images and labels in three splits, checked once when they are put together."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from limbeck.errors import DataError

__all__ = ["DataSource", "Dataset", "Split", "as_float", "choose_classes", "split_rows", "validate_dataset"]


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of one split.

    Attributes:
        images: float32 in [0, 1], or uint8 in 0-255; shape (rows, channels, height, width).
        labels: int64 class indices, shape (rows,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.images.shape[0]

    def take(self, indices: Tensor | Sequence[int]) -> Split:
        """The rows at ``indices``, in that order, as a copy.

        >>> split = Split(torch.zeros(3, 1, 2, 2), torch.tensor([5, 6, 7]))
        >>> split.take([2, 0]).labels
        tensor([7, 5])
        """
        index = torch.as_tensor(indices, dtype=torch.int64)
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in three disjoint splits. Building one runs :func:`validate_dataset`.

    Attributes:
        name: short name for tables and directories, e.g. ``"digits"``.
        train: rows to fit on, already shuffled.
        validation: rows for choosing settings and for early stopping.
        test: rows for the reported numbers only.
        classes: class names; label ``i`` means ``classes[i]``. A set without labels has one class.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        validate_dataset(self)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the bytes, shape and dtype of every tensor: equal only if all rows are equal."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for tensor in (split.images, split.labels):
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
    :class:`~limbeck.errors.DataError` with the path and the mend when something is wrong with the input.

    >>> class Noise(DataSource):
    ...     def __init__(self, rows: int = 10) -> None:
    ...         self.rows = rows
    ...
    ...     def load(self) -> Dataset:
    ...         generator = torch.Generator().manual_seed(0)
    ...         images = torch.rand(self.rows, 1, 4, 4, generator=generator)
    ...         everything = Split(images, torch.zeros(self.rows, dtype=torch.int64))
    ...         rest, test = split_rows(everything.labels, 0.2, seed=0)
    ...         train, validation = rest[2:], rest[:2]
    ...         parts = [everything.take(rows) for rows in (train, validation, test)]
    ...         return Dataset("noise", *parts, classes=("noise",))
    >>> len(Noise(rows=20).load().train)
    14
    """

    @abstractmethod
    def load(self) -> Dataset:
        """Read the data set. Twice the same call gives the same tensors.

        Raises:
            DataError: the data are missing, unreadable, empty or not finite.
        """


def as_float(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1]; uint8 is divided by 255, floats only change their dtype.

    >>> as_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([0.0000, 0.2000, 1.0000])
    """
    if images.dtype == torch.uint8:
        return images.float() / 255
    return images.float()


def split_rows(labels: Tensor, part: int | float, seed: int) -> tuple[Tensor, Tensor]:
    """Shuffle row numbers and cut off a part, with the same class proportions on both sides where that is possible.

    Args:
        labels: class index of each row, shape (rows,).
        part: size of the second piece: a share in (0, 1) if a float, a number of rows if an integer.
        seed: fixes the shuffle.

    Returns:
        Row numbers of the rest and of the part, both shuffled, int64.

    Raises:
        DataError: one of the two pieces would be empty.

    >>> rest, part = split_rows(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), 2, seed=0)
    >>> len(rest), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])[part].sort().values
    (6, tensor([0, 1]))
    """
    from sklearn.model_selection import train_test_split

    rows = len(labels)
    count = part if isinstance(part, int) else round(part * rows)
    if not 0 < count < rows:
        raise DataError(
            f"cannot cut {part} off {rows} rows: give a share between 0 and 1 or a number of rows below {rows} "
            "that leaves at least one row on either side."
        )
    sizes = torch.unique(labels, return_counts=True)[1]
    # scikit-learn refuses to stratify when a class has a single row or a side has fewer rows than classes.
    possible = int(sizes.min()) >= 2 and min(count, rows - count) >= len(sizes)
    stratify = labels.numpy() if possible else None
    rest, cut = train_test_split(range(rows), test_size=count, random_state=seed, shuffle=True, stratify=stratify)
    return torch.tensor(rest), torch.tensor(cut)


def choose_classes(
    names: tuple[str, ...], labels: Tensor, classes: Sequence[int] | None, title: str
) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Keep only the rows of some classes and number these classes anew, in the order asked for.

    Args:
        names: names of all classes.
        labels: class index of each row, shape (rows,).
        classes: the class indices to keep; ``None`` keeps everything as it is.
        title: name of the data set, for the message.

    Returns:
        The names kept, the new labels of the rows kept, and the numbers of these rows.

    Raises:
        DataError: a class is given twice or does not exist.

    >>> choose_classes(("cat", "dog", "emu"), torch.tensor([0, 1, 2, 0]), [2, 0], "pets")
    (('emu', 'cat'), tensor([1, 0, 1]), tensor([0, 2, 3]))
    """
    if classes is None:
        return names, labels, torch.arange(len(labels))
    if not classes or len(set(classes)) < len(classes) or not set(classes) <= set(range(len(names))):
        known = ", ".join(f"{index} {name}" for index, name in enumerate(names[:20]))
        raise DataError(f"{title}: classes {list(classes)} must be different indices out of: {known}.")
    position = torch.full((len(names) + 1,), -1)  # the last entry serves rows without a class, labelled -1
    position[list(classes)] = torch.arange(len(classes))
    moved = position[labels]
    kept = (moved >= 0).nonzero().flatten()
    return tuple(names[index] for index in classes), moved[kept], kept


def validate_dataset(dataset: Dataset) -> None:
    """Check that every split can be trained or measured on.

    Raises:
        DataError: a split is empty, has a wrong shape or dtype, non-finite values, values outside [0, 1] or labels
            that are no class; the message names the set, the split and how many values are wrong.
    """
    shape = dataset.train.images.shape[1:]
    for title, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test)):
        where = f"data set {dataset.name!r}, {title} split"
        images, labels = split.images, split.labels
        if images.ndim != 4 or labels.shape != images.shape[:1]:
            raise DataError(
                f"{where}: images have shape {tuple(images.shape)} and labels {tuple(labels.shape)}; "
                "expected (rows, channels, height, width) and (rows,)."
            )
        if images.shape[1:] != shape:
            raise DataError(f"{where}: images are {tuple(images.shape[1:])} but those of train are {tuple(shape)}.")
        if images.numel() == 0:
            raise DataError(f"{where} is empty: use more rows, a larger share or fewer restrictions.")
        if images.dtype not in (torch.float32, torch.uint8) or labels.dtype != torch.int64:
            raise DataError(
                f"{where}: images are {images.dtype} and labels {labels.dtype}; "
                "expected float32 or uint8 images and int64 labels."
            )
        if images.dtype == torch.float32:
            _check_values(images, where)
        wrong = int(((labels < 0) | (labels >= len(dataset.classes))).sum())
        if wrong:
            raise DataError(
                f"{where}: {wrong} of {len(labels)} labels lie outside 0 to {len(dataset.classes) - 1} "
                f"(there are {len(dataset.classes)} classes; the smallest label is {int(labels.min())}, the largest "
                f"{int(labels.max())}). Drop or relabel these rows."
            )


def _check_values(images: Tensor, where: str) -> None:
    finite = images.isfinite()
    if not finite.all():
        rows = int((~finite).flatten(1).any(dim=1).sum())
        raise DataError(
            f"{where}: {int((~finite).sum())} values in {rows} of {len(images)} images are NaN or infinite; "
            "drop or repair these images."
        )
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        count = int(((images < 0) | (images > 1)).sum())
        raise DataError(
            f"{where}: {count} values lie outside [0, 1] (smallest {low:.4g}, largest {high:.4g}); "
            "scale the images, for instance divide 0-255 values by 255."
        )
