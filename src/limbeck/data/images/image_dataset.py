"""Labelled images in three splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.data.dataset import Dataset, Split
from limbeck.errors import DataError
from limbeck.pixels import bytes_to_floats

__all__ = ["ImageDataset", "ImageSplit", "as_float", "choose_classes"]


@dataclass(frozen=True, eq=False)
class ImageSplit(Split):
    """The images and labels of one split.

    Attributes:
        images: float32 in [0, 1], or uint8 in 0-255; shape (rows, channels, height, width).
        labels: int64 class indices, shape (rows,).

    >>> split = ImageSplit(torch.zeros(3, 1, 2, 2), torch.tensor([5, 6, 7]))
    >>> split.take([2, 0]).labels
    tensor([7, 5])
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class ImageDataset(Dataset):
    """Labelled images.

    Attributes:
        classes: class names; label ``i`` means ``classes[i]``. A set without labels has one class.
    """

    train: ImageSplit
    validation: ImageSplit
    test: ImageSplit
    classes: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @override
    def check(self, split: Split, where: str) -> None:
        """See :class:`Dataset`: shapes, dtypes, non-finite values, values outside [0, 1], labels that are no class."""
        assert isinstance(split, ImageSplit)
        images, labels = split.images, split.labels
        if images.ndim != 4 or labels.shape != images.shape[:1]:
            raise DataError(
                f"{where}: images have shape {tuple(images.shape)} and labels {tuple(labels.shape)}; "
                "expected (rows, channels, height, width) and (rows,)."
            )
        shape = self.train.images.shape[1:]
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
        wrong = int(((labels < 0) | (labels >= len(self.classes))).sum())
        if wrong:
            raise DataError(
                f"{where}: {wrong} of {len(labels)} labels lie outside 0 to {len(self.classes) - 1} "
                f"(there are {len(self.classes)} classes; the smallest label is {int(labels.min())}, the largest "
                f"{int(labels.max())}). Drop or relabel these rows."
            )


def as_float(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1]; uint8 is divided by 255, floats only change their dtype.

    >>> as_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([0.0000, 0.2000, 1.0000])
    """
    return bytes_to_floats(images).float()


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
