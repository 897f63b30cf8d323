from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from limbeck.errors import DataError, StorageError
from limbeck.report import image_grid, save_grid


def test_grid_places_pixels():
    images = np.zeros((3, 1, 2, 2))
    images[1, 0, 0, 1] = 1.0
    grid = np.asarray(image_grid(images, columns=2, scale=1, padding=1))
    assert grid.shape == (7, 7)
    assert grid[1, 5] == 255  # second tile starts at column 4
    assert (grid[0] == grid[0, 0]).all()
    assert grid[5, 5] == grid[0, 0]  # the place without an image


def test_small_images_are_enlarged_without_smoothing():
    images = np.zeros((1, 1, 8, 8))
    images[0, 0, 0, 0] = 1.0
    grid = np.asarray(image_grid(images, padding=0))
    assert grid.shape == (64, 64)
    assert (grid[:8, :8] == 255).all()
    assert grid.sum() == 64 * 255


def test_colour_and_clamping():
    images = np.stack([np.full((4, 4), 2.0), np.full((4, 4), -1.0), np.full((4, 4), 0.5)])[None]
    picture = image_grid(images, scale=1, padding=0)
    assert picture.mode == "RGB"
    assert picture.getpixel((0, 0)) == (255, 0, 128)


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 2, 8, 8), (0, 1, 8, 8), (1, 1, 0, 8)])
def test_wrong_shapes(shape):
    with pytest.raises(DataError, match="shape"):
        image_grid(np.zeros(shape))


def test_non_finite_pixels_are_named():
    images = np.zeros((2, 1, 2, 2))
    images[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="2 of 8"):
        image_grid(images)


def test_save_grid(tmp_path):
    images = np.random.default_rng(0).random((5, 3, 8, 8))
    path = save_grid(images, tmp_path / "new" / "samples.png", columns=4)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(image_grid(images, columns=4)))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        save_grid(images, tmp_path / "file" / "samples.png")
