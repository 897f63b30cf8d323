"""Bringing one picture to the colours and the size that a data set is asked for."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from limbeck.errors import DataError

__all__ = ["Resize", "shaped"]

Resize = Literal["pad", "bilinear"]


def shaped(image: Any, size: int, channels: int, resize: Resize, center_crop: int | None = None) -> Tensor:
    """One picture as a tensor.

    Args:
        image: a ``PIL.Image.Image``.
        size: pixels a side of the result.
        channels: 1 for grey, 3 for colour.
        resize: ``"pad"`` centres the image on black and shrinks it only if it is too large; ``"bilinear"`` stretches or
            shrinks it to the size, with antialiasing.
        center_crop: side in pixels of the centred square that is cut out first.

    Returns:
        uint8, shape (channels, size, size).

    Raises:
        DataError: the square to be cut out is empty, or larger than the image.
        ValueError: which of its values are black and white is not known.
    """
    import numpy as np
    from PIL import ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    image = _eight_bits(image).convert("L" if channels == 1 else "RGB")
    if center_crop is not None:
        if center_crop < 1:
            raise DataError(f"center_crop must be at least 1, not {center_crop}; leave it out for no crop.")
        if center_crop > min(image.size):
            raise DataError(
                f"center_crop {center_crop} is larger than an image of {image.width} x {image.height} pixels; lower it."
            )
        left, top = (image.width - center_crop) // 2, (image.height - center_crop) // 2
        image = image.crop((left, top, left + center_crop, top + center_crop))
    target = (size, size)
    if image.size != target:
        image = _stretched(image, target) if resize == "bilinear" else _padded(image, target)
    return torch.from_numpy(np.array(image).reshape(size, size, channels)).permute(2, 0, 1)


def _eight_bits(image: Any) -> Any:
    """Numbers of 16 bits, and fractions in [0, 1], scaled to 0-255, where plain conversion would clip them."""
    import numpy as np
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    top = 1 if image.mode == "F" else 65535
    if not bool((values >= 0).all() and (values <= top).all()):
        known = "fractions from 0 to 1" if image.mode == "F" else "whole numbers from 0 to 65535"
        raise ValueError(f"its values go from {values.min():.6g} to {values.max():.6g}, but {known} are needed")
    return Image.fromarray(np.rint(values * 255).astype(np.uint8) if top == 1 else (values >> 8).astype(np.uint8))


def _stretched(image: Any, target: tuple[int, int]) -> Any:
    from PIL import Image

    return image.resize(target, Image.Resampling.BILINEAR)


def _padded(image: Any, target: tuple[int, int]) -> Any:
    from PIL import Image, ImageOps

    if image.width > target[0] or image.height > target[1]:
        image = ImageOps.contain(image, target, Image.Resampling.BILINEAR)
    canvas = Image.new(image.mode, target)
    canvas.paste(image, ((target[0] - image.width) // 2, (target[1] - image.height) // 2))
    return canvas
