"""Pictures of any size and depth become squares of bytes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data import Images
from limbeck.errors import DataError
from tests.data.images.drawn_pictures import picture, save


def test_pad_centres_and_colour_repeats_grey(table: Path) -> None:
    images = Images(path=str(table), size=8, channels=3).load().test.images
    assert images.shape == (8, 3, 8, 8)
    assert torch.equal(images[:, 0], images[:, 2])
    expected = torch.zeros(8, 8, dtype=torch.uint8)
    expected[2:6, 1:7] = images[0, 0, 4, 4]
    expected[2, 1] = 255
    assert torch.equal(images[0, 0], expected)


def test_pad_shrinks_large_images_and_keeps_their_aspect(table: Path) -> None:
    images = Images(path=str(table), size=3, channels=1).load().test.images
    assert images.shape == (8, 1, 3, 3)
    assert (images[:, 0, :2] > 0).all()
    assert (images[:, 0, 2] == 0).all()


def test_bilinear_fills_the_square(table: Path) -> None:
    images = Images(path=str(table), size=8, channels=1, resize="bilinear").load().test.images
    assert (images > 0).all()
    assert sorted(images[:, 0, 7, 7].tolist()) == list(range(100, 108))


@pytest.mark.parametrize("crop", [0, -1])
def test_an_empty_crop_is_refused(table: Path, crop: int) -> None:
    with pytest.raises(DataError, match=f"center_crop must be at least 1, not {crop}; leave it out"):
        Images(path=str(table), center_crop=crop).load()


def test_a_center_crop_cuts_the_middle(table: Path) -> None:
    images = Images(path=str(table), size=2, center_crop=2, channels=1).load().test.images
    assert sorted(images.flatten().tolist()) == sorted(list(range(100, 108)) * 4)
    with pytest.raises(DataError, match="center_crop 5 is larger than an image of 6 x 4"):
        Images(path=str(table), center_crop=5).load()


def test_sixteen_bits_are_scaled_and_orientation_is_obeyed(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16))
    turned = picture(50, size=(4, 2), mode="RGB")
    exif = turned.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    for i in range(10):
        save(tmp_path / "deep" / f"{i}.png", deep)
        (tmp_path / "turned").mkdir(exist_ok=True)
        turned.save(tmp_path / "turned" / f"{i}.png", exif=exif)
    train = Images(path=str(tmp_path), size=4, channels=1).load().train
    assert (train.images[train.labels == 0] == 128).all()
    columns = train.images[train.labels == 1][:, 0].amax(dim=1)
    assert (columns == torch.tensor([0, 50, 255, 0])).all()


@pytest.mark.parametrize(
    ("suffix", "dtype", "values"),
    [
        (".pgm", np.uint16, [0, 0x8000, 0xFFFF, 0x0100]),
        (".tif", np.int32, [0, 0x8000, 0xFFFF, 0x0100]),
        (".tif", np.float32, [0.0, 128 / 255, 1.0, 1 / 255]),
    ],
)
def test_deep_pictures_are_scaled_to_eight_bits(tmp_path: Path, suffix: str, dtype: type, values: list[float]) -> None:
    deep = Image.fromarray(np.array(values, dtype=dtype).reshape(2, 2))
    for i in range(12):
        save(tmp_path / f"{i}{suffix}", deep)
    image = Images(path=str(tmp_path), size=2, channels=1).load().train.images[0]
    assert image.flatten().tolist() == [0, 128, 255, 1]
    wrong = Image.fromarray(np.array([[-1.0, 70000.0]], dtype=np.float32 if dtype is np.float32 else np.int32))
    wrong.save(tmp_path / "0.tif")
    with pytest.raises(DataError, match=r"0\.tif cannot be read \(its values go from -1 to 70000, but"):
        Images(path=str(tmp_path), size=2, channels=1).load()
