"""Pictures as files: grids of sample images and figures, as every trained model leaves one beside its weights."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from limbeck.errors import DataError
from limbeck.files import atomic_write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

__all__ = ["image_grid", "save_figure", "save_grid"]

_TILE = 64  # pixels that an image is enlarged to fill at least, so that 8x8 digits can be seen
_GAP = 112  # grey of the lines between images: told apart from black and white images, calm on light and dark pages


def image_grid(images: npt.NDArray[Any], columns: int = 8, scale: int | None = None, padding: int = 1) -> Image.Image:
    """Arrange images in a grid, row by row.

    Args:
        images: array of shape (images, channels, height, width) with one or three channels. Values are in [0, 1];
            values outside are clamped.
        columns: images in a row of the grid.
        scale: whole factor by which every pixel is enlarged (nearest neighbour, nothing is smoothed). By default small
            images are enlarged until they fill about 64 pixels.
        padding: width of the lines between images, in pixels of the images; once enlarged, half as wide as they.

    Returns:
        A grey or a colour picture.

    Raises:
        DataError: the array does not hold images, or holds values that are not finite.
    """
    from PIL import Image

    array = np.asarray(images)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or 0 in array.shape:
        raise DataError(f"A grid needs images of shape (count, 1 or 3, height, width), not {array.shape}.")
    if columns < 1 or padding < 0 or (scale is not None and scale < 1):
        raise DataError("A grid needs columns >= 1, scale >= 1 and padding >= 0.")
    bad = int(np.size(array) - np.isfinite(array).sum())
    if bad:
        raise DataError(f"{bad} of {array.size} pixel values are not finite: the model that drew them has diverged.")
    count, channels, height, width = array.shape
    factor = scale or max(1, round(_TILE / max(height, width)))
    gap = padding * max(min(factor, 2), factor // 2)
    columns = min(columns, count)
    rows = -(-count // columns)
    tile_height, tile_width = height * factor, width * factor
    canvas = np.full((rows * (tile_height + gap) + gap, columns * (tile_width + gap) + gap, channels), _GAP, np.uint8)
    pixels = np.rint(np.clip(array.astype(np.float64), 0.0, 1.0) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    for index in range(count):
        top = gap + (index // columns) * (tile_height + gap)
        left = gap + (index % columns) * (tile_width + gap)
        canvas[top : top + tile_height, left : left + tile_width] = pixels[index]
    return Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)


def save_grid(
    images: npt.NDArray[Any], path: str | Path, columns: int = 8, scale: int | None = None, padding: int = 1
) -> Path:
    """Write :func:`image_grid` as a PNG file, completely or not at all.

    Args:
        images: as for :func:`image_grid`.
        path: the file to write; missing directories are made.
        columns: images in a row of the grid.
        scale: whole factor by which every pixel is enlarged.
        padding: width of the lines between images.

    Returns:
        The path written.

    Raises:
        DataError: the array does not hold images, or holds values that are not finite.
        StorageError: the file cannot be written.
    """
    buffer = io.BytesIO()
    image_grid(images, columns, scale, padding).save(buffer, format="PNG", optimize=True)
    return atomic_write_bytes(path, buffer.getvalue())


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, the same bytes for the same figure.

    Args:
        figure: made by :class:`matplotlib.figure.Figure`, without pyplot and its global state.
        path: the file; it replaces an older one only once it is complete.

    Returns:
        The path written.

    Raises:
        StorageError: the file cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return atomic_write_bytes(path, buffer.getvalue())
