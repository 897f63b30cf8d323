"""Images from folders: splits and classes are told by names, and damaged files are named."""

from pathlib import Path

import pytest

from limbeck.data import Images
from limbeck.errors import DataError
from tests.data.images.drawn_pictures import encoded, picture, save, values


@pytest.mark.parametrize("awkward", ["plain", "[1] train of .test"])
def test_folders_of_splits_hold_folders_of_classes(tmp_path: Path, awkward: str) -> None:
    root = tmp_path / ".hidden" / awkward
    for index, name in enumerate(("cat", "dog")):
        for i in range(6):
            save(root / "train" / name / f"{i}.png", picture(10 * index + i, mode="RGB"))
        save(root / "test" / name / "0.png", picture(100 + index))
    (root / "train" / "notes.txt").write_text("not an image")
    dataset = Images(path=str(root), size=8, channels=1, validation=2).load()
    assert dataset.name == awkward
    assert dataset.classes == ("cat", "dog")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [10, 2, 2]
    for part in (dataset.train, dataset.validation):
        assert part.labels.tolist() == [value // 10 for value in values(part.images)]


def test_a_folder_without_splits_may_have_a_class_named_train(tmp_path: Path) -> None:
    for name in ("car", "train"):
        for i in range(10):
            save(tmp_path / name / f"{i}.png", picture(i))
    dataset = Images(path=str(tmp_path), size=8).load()
    assert dataset.classes == ("car", "train")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [16, 2, 2]


def test_a_flat_folder_may_mix_sizes_modes_and_formats(tmp_path: Path) -> None:
    """Sizes, modes and formats differ, and the file names look like splits."""
    for i in range(5):
        save(tmp_path / f"test_{i}.png", picture(200, size=(5 + i, 9 - i)))
        save(tmp_path / f"train_{i}.JPG", picture(200, size=(40, 30), mode="RGB"))
        save(tmp_path / f"{i}.webp", picture(200, mode="RGBA"))
        save(tmp_path / f"{i}.gif", picture(200, mode="P"))
    dataset = Images(path=str(tmp_path), size=12, resize="bilinear").load()
    assert dataset.classes == ("all",)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [16, 2, 2]
    assert dataset.image_shape == (3, 12, 12)
    assert dataset.train.images[:, :, 6:, 6:].float().mean() == pytest.approx(200, abs=4)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a directory"):
        Images(path=str(tmp_path / "nowhere")).load()


def test_a_directory_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match="holds neither Parquet nor image files"):
        Images(path=str(tmp_path)).load()


@pytest.mark.parametrize("content", [b"", b"not an image", encoded(picture(5, size=(60, 60)))[:60]])
def test_a_corrupt_image_is_named(tmp_path: Path, content: bytes) -> None:
    for i in range(12):
        save(tmp_path / f"{i}.png", picture(i))
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(DataError, match=r"image .*broken\.png cannot be read"):
        Images(path=str(tmp_path)).load()
