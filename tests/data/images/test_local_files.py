"""Which files of a directory belong to which split: told by names, and refused where names leave it open."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data import Images
from limbeck.data.images.local_files import local_files
from limbeck.errors import DataError

pytest.importorskip("datasets")


def save(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, dtype=np.uint8)).save(path)


def values(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def fill(root: Path, *folders: str, files: tuple[str, ...] = ()) -> str:
    """Six pictures in every folder, and single ones; the grey value tells the folder."""
    for index, folder in enumerate(folders):
        for i in range(6):
            save(root / folder / f"{i}.png", 10 * index + i)
    for file in files:
        save(root / file, 200)
    return str(root)


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "Test"), ("training", "testing"), ("TRAIN", "eval"), ("train", "test")]
)
def test_image_folders_of_splits_by_other_names(tmp_path: Path, train: str, test: str) -> None:
    folders = [f"{split}/{name}" for split in (train, test) for name in "ab"]
    path = fill(tmp_path, *folders, files=("__MACOSX/x/1.png", ".cache/y/z/1.png"))
    (tmp_path / "extra").mkdir()
    dataset = Images(path=path, size=8, channels=1, validation=2).load()
    assert dataset.classes == ("a", "b")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [10, 2, 12]
    assert min(values(dataset.test.images)) == 20
    assert max(values(dataset.train.images) + values(dataset.validation.images)) == 15


def test_folders_of_splits_are_no_classes(tmp_path: Path) -> None:
    dataset = Images(path=fill(tmp_path, "train", "val", "validation", "test"), size=8, channels=1).load()
    assert dataset.classes == ("all",)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [6, 12, 6]


UNCLEAR = {
    "other folder beside splits": (("train/a", "train/b", "test/a", "extra/a"), (), "but extra beside them would not"),
    "pictures beside splits": (("train", "test", "extra"), (), "but extra beside them would not"),
    "split beside classes": (("train/a", "train/b", "a"), (), "train would be splits, but a beside it"),
    "splits within a folder": (("w/train/a", "w/test/a"), (), "test and train would be splits, but they lie within"),
    "no training": (("test/a", "test/b"), (), "has no folder for training, only test"),
    "picture beside classes": (("a", "b"), ("logo.png",), r"logo\.png lies in 0 folders and others, such as a/0\.png"),
    "split without classes": (("train/a", "train/b"), ("test/1.png",), r"test/1\.png lies in 0 folders of its split"),
    "deeper class": (("a", "b"), ("c/sub/1.png",), r"c/sub/1\.png lies in 2 folders .* in 1, "),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_folders_that_could_be_splits_or_classes(tmp_path: Path, case: str) -> None:
    folders, files, told = UNCLEAR[case]
    with pytest.raises(DataError, match=told):
        Images(path=fill(tmp_path, *folders, files=files), size=8).load()


def test_metadata_says_what_the_pictures_are(tmp_path: Path) -> None:
    path = fill(tmp_path, "a", "b", files=("logo.png",))
    names = [f"{folder}/{i}.png" for folder in "ab" for i in range(6)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *(f"{name},{name[-5]}" for name in names)]))
    assert Images(path=path, size=8).load().classes == tuple("012345")


PARQUET = {
    "hub": (["train/0000", "test/0000"], {"train": [0], "test": [1]}),
    "words": (["cifar-train", "cifar.test_1"], {"train": [0], "test": [1]}),
    "two words": (["training-0", "train-0", "Testing-0"], {"train": [1, 0], "test": [2]}),
    "folders of several words": (["set-train/0", "set-test/0"], {"train": [0], "test": [1]}),
    "file before folder": (["train-test/train-0", "train-test/dev"], {"train": [0], "validation": [1]}),
    "others beside": (["train-0", "extra-0", "test-0", ".cache/train-0"], {"train": [0], "test": [2]}),
    "no words": (["0000", "x/0001"], {"train": [0, 1]}),
}


@pytest.mark.parametrize("case", PARQUET)
def test_names_of_parquet_files(tmp_path: Path, case: str) -> None:
    names, wanted = PARQUET[case]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.parquet").touch()
    builder, settings = local_files(tmp_path)
    assert builder == "parquet"
    assert settings["data_files"] == {
        split: [str(tmp_path / f"{names[number]}.parquet") for number in numbers] for split, numbers in wanted.items()
    }


def test_parquet_file_of_two_splits(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "test-0.parquet").touch()
    with pytest.raises(DataError, match=r"train/test-0\.parquet names the splits test and train"):
        local_files(tmp_path)
