"""Random crops and flips of images, whole batches at a time, from numbers that are drawn beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.errors import DataError, RecipeError

__all__ = ["Augmentation"]


@dataclass(frozen=True)
class Augmentation:
    """The usual augmentation of small images: pad, crop at random to the size before, mirror half of them.

    Crops are drawn separately from the cropping, so that the view of every row in every epoch follows from the seed of
    a training alone. Teacher and student share their input, so they see the same view.

    Attributes:
        padding: pixels added on each side before the crop; 0 for no crop.
        flip: whether a row is mirrored, left for right, with probability one half.
        fill: what is added: ``"zeros"`` (black) or ``"reflect"``, the image itself mirrored at its edge.
        views: how many views of each row there are, one per epoch in turn, the same for all methods and seeds, so that
            a teacher's outputs on them can be kept; ``None`` for a new view in every epoch.

    Raises:
        RecipeError: a number is impossible, or nothing would be changed.

    Example:
        >>> image = torch.arange(4.0).view(1, 1, 2, 2)
        >>> Augmentation(padding=1)(image, torch.tensor([[0, 1, 1]]))  # one down, mirrored
        tensor([[[[0., 0.],
                  [1., 0.]]]])
    """

    padding: int = 4
    flip: bool = True
    fill: Literal["zeros", "reflect"] = "zeros"
    views: int | None = None

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise RecipeError(f"augmentation: padding must not be negative, but is {self.padding}")
        if self.views is not None and self.views < 1:
            raise RecipeError(f"augmentation: views must be at least 1, not {self.views}; leave it out for a new view "
                              "in every epoch")  # fmt: skip
        if self.fill not in ("zeros", "reflect"):
            raise RecipeError(f"augmentation: fill must be zeros or reflect, not {self.fill!r}")
        if self.padding == 0 and not self.flip:
            raise RecipeError("augmentation: without padding and flip nothing is changed; leave augmentation out")

    def draw(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw one view of each row.

        Args:
            rows: how many.
            generator: source of the numbers; by default torch's global one.

        Returns:
            Where the crop starts in the padded image, down and right, in pixels, and whether it is mirrored; int64 of
            shape (rows, 3).
        """
        starts = torch.randint(2 * self.padding + 1, (rows, 2), generator=generator)
        mirrored = torch.randint(2, (rows, 1), generator=generator)
        return torch.cat([starts, mirrored if self.flip else torch.zeros_like(mirrored)], 1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """The views of images that were drawn.

        Args:
            images: shape (rows, channels, height, width), any dtype.
            draws: from :meth:`draw`, shape (rows, 3).

        Returns:
            Of the shape and dtype of ``images``.

        Raises:
            DataError: these are no images, or are too small to be continued by their own reflection.
        """
        if images.ndim != 4:
            raise DataError(
                f"augmentation is for images of shape (rows, channels, height, width), but the rows have shape "
                f"{tuple(images.shape)}; leave training.augmentation out"
            )
        rows, channels, height, width = images.shape
        down, right, mirrored = draws.to(images.device).unbind(1)
        across = torch.arange(width, device=images.device)
        across = torch.where(mirrored[:, None] > 0, width - 1 - across, across) + right[:, None]
        along = torch.arange(height, device=images.device) + down[:, None]
        if self.fill == "reflect":
            if self.padding >= min(height, width):
                raise DataError(
                    f"augmentation: {self.padding} pixels cannot be taken from the reflection of an image of {height}x"
                    f"{width}; use a smaller padding, or fill: zeros"
                )
            across, along = _reflected(across - self.padding, width), _reflected(along - self.padding, height)
        elif self.padding:
            images = F.pad(images, (self.padding,) * 4)
        index = (along[:, :, None] * images.shape[3] + across[:, None, :]).view(rows, 1, -1).expand(-1, channels, -1)
        return images.flatten(2).gather(2, index).view(rows, channels, height, width)


def _reflected(index: Tensor, size: int) -> Tensor:
    """Pixels outside 0 to size - 1 as those on the other side of the edge pixel, which is not repeated."""
    return size - 1 - (size - 1 - index.abs()).abs()
