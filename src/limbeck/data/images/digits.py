"""The 8x8 handwritten digits that come with scikit-learn: real data without a download."""

from __future__ import annotations

import torch
from torch.nn import functional as F
from typing_extensions import override

from limbeck.choices import check_choice
from limbeck.data.dataset import DataSource, split_rows
from limbeck.data.images.image_dataset import ImageDataset, ImageSplit, choose_classes
from limbeck.data.images.shaping import Resize
from limbeck.errors import DataError

__all__ = ["Digits"]

_NATIVE = 8  # pixels a side


class Digits(DataSource):
    """1797 real handwritten digits, 8x8 grey, values in 17 levels from 0 to 1.

    The UCI set "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, 1998; its test part), as shipped
    with scikit-learn. Splits are shuffled and keep the class proportions.

    Args:
        size: pixels a side, at least 8.
        resize: how to get from 8 to ``size`` pixels: ``"bilinear"`` enlarges, ``"pad"`` puts zeros around.
        classes: digits to keep, e.g. ``[0, 1]``; labels become positions in this list. ``None`` keeps all ten.
        limit: at most this many rows in each split, for quick trials; ``None`` keeps all.
        validation: validation rows out of what the test split leaves: a share (float) or a number of rows (int).
        test: test rows: a share (float) or a number of rows (int).
        seed: fixes the splits.

    >>> dataset = Digits().load()
    >>> dataset.image_shape, len(dataset.train), len(dataset.validation), len(dataset.test)
    ((1, 8, 8), 1213, 135, 449)
    """

    def __init__(
        self,
        size: int = 8,
        resize: Resize = "bilinear",
        classes: list[int] | None = None,
        limit: int | None = None,
        validation: int | float = 0.1,
        test: int | float = 0.25,
        seed: int = 0,
    ) -> None:
        self.size = size
        self.resize = resize
        self.classes = classes
        self.limit = limit
        self.validation = validation
        self.test = test
        self.seed = seed

    @override
    def load(self) -> ImageDataset:
        """Read, resize and split the digits.

        Raises:
            DataError: the size is below 8, a class is no digit, or a split would be empty.
        """
        from sklearn.datasets import load_digits

        if self.size < _NATIVE:
            raise DataError(
                f"Digits: size {self.size} is below the {_NATIVE} pixels of the data; use {_NATIVE} or more."
            )
        if self.limit is not None and self.limit < 1:
            raise DataError(f"Digits: limit {self.limit} leaves no rows; use at least 1, or none for all rows.")
        check_choice(DataError, "Digits: resize", self.resize, Resize)
        raw = load_digits()
        images = torch.tensor(raw.images, dtype=torch.float32)[:, None] / 16
        labels = torch.tensor(raw.target, dtype=torch.int64)
        names, labels, kept = choose_classes(tuple(str(digit) for digit in range(10)), labels, self.classes, "Digits")
        everything = ImageSplit(self._resized(images[kept]), labels)
        rest, test = split_rows(everything.labels, self.test, self.seed, "test")
        train, validation = split_rows(everything.labels[rest], self.validation, self.seed, "validation")
        parts = [everything.take(rows[: self.limit]) for rows in (rest[train], rest[validation], test)]
        return ImageDataset("digits", parts[0], parts[1], parts[2], classes=names)

    def _resized(self, images: torch.Tensor) -> torch.Tensor:
        extra = self.size - _NATIVE
        if extra == 0:
            return images
        if self.resize == "pad":
            before, after = extra // 2, extra - extra // 2
            return F.pad(images, (before, after, before, after))
        # Rounding in the interpolation can leave [0, 1] by one unit in the last place.
        return F.interpolate(images, size=(self.size, self.size), mode="bilinear").clamp(0, 1)
