"""CelebA in its published layout, written here in small: eight pictures, three attributes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data import CelebA, Domains
from limbeck.errors import DataError

ATTRIBUTES = ("Eyeglasses", "Male", "Smiling")
VALUES = ((-1, 1, -1), (1, 1, -1), (1, -1, 1), (-1, -1, 1), (1, -1, -1), (-1, 1, 1), (1, 1, 1), (-1, 1, -1))
PARTITION = (0, 0, 1, 0, 2, 1, 2, 0)


def name(row: int) -> str:
    return f"{row + 1:06d}.jpg"


def shade(row: int) -> int:
    return 20 * (row + 1)


def publish(root: Path, *, flat: bool = True, copies: int = 1) -> Path:
    """A directory as the archives unpack: everything in one place, or in the owners' folders."""
    images, lists, partition = (root if flat else root / part for part in ("Img", "Anno", "Eval"))
    for directory in (images / "img_align_celeba", lists, partition):
        directory.mkdir(parents=True, exist_ok=True)
    values, parts = VALUES * copies, PARTITION * copies
    for row in range(len(values)):
        pixels = np.full((218, 178, 3), shade(row % len(VALUES)), dtype=np.uint8)
        pixels[:20] = 255  # above the centred square
        Image.fromarray(pixels).save(images / "img_align_celeba" / name(row), quality=95)
    header = f"{len(values)}\n{' '.join(ATTRIBUTES)} \n"
    lines = [f"{name(row)} " + " ".join(f"{value:2d}" for value in found) for row, found in enumerate(values)]
    (lists / "list_attr_celeba.txt").write_text(header + "\n".join(lines) + "\n")
    (partition / "list_eval_partition.txt").write_text(
        "".join(f"{name(row)} {part}\n" for row, part in enumerate(parts))
    )
    return root


@pytest.fixture(params=["flat", "published"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return publish(tmp_path / "celeba", flat=request.param == "flat")


def rows_of(images: torch.Tensor) -> list[int]:
    """Which picture each is, from its grey value."""
    return [round(value / 20) - 1 for value in images.float().mean((1, 2, 3)).tolist()]


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_any_attribute_is_the_label(folder: Path, attribute: str) -> None:
    found = CelebA(str(folder), attribute, size=8).load()
    assert found.classes == (f"not {attribute}", attribute)
    assert found.image_shape == (3, 8, 8)
    for part, split in enumerate(found.splits.values()):
        rows = rows_of(split.images)
        assert sorted(rows) == [row for row, where in enumerate(PARTITION) if where == part]
        assert split.labels.tolist() == [int(VALUES[row][ATTRIBUTES.index(attribute)] == 1) for row in rows]
    assert found.train.images.dtype == torch.uint8
    # The bright stripe is outside of the central square.
    assert all(int(image.amax() - image.amin()) <= 2 for image in found.train.images)


def test_colours_size_crop_limit_and_order(folder: Path) -> None:
    grey = CelebA(str(folder), size=16, channels=1, center_crop=None, limit=1).load()
    assert grey.image_shape == (1, 16, 16)
    assert [len(split) for split in grey.splits.values()] == [1, 1, 1]
    assert int(grey.train.images[0, 0, 0].min()) > 240
    orders = {tuple(rows_of(CelebA(str(folder), size=4, seed=seed).load().train.images)) for seed in range(8)}
    assert len(orders) > 1
    assert CelebA(str(folder), size=4).load().fingerprint == CelebA(str(folder), size=4).load().fingerprint


def test_as_domains(folder: Path) -> None:
    found = Domains(CelebA(str(folder), "Male", size=8), [[1], [0]], ["men", "women"]).load()
    assert found.classes == ("Male", "not Male")
    for split in found.splits.values():
        for row, domain in zip(rows_of(split.images), split.domains.argmax(1).tolist(), strict=True):
            assert domain == int(VALUES[row][1] == -1)


def test_the_folder_of_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(folder.parent))
    assert len(CelebA(size=4).load().train) == PARTITION.count(0)
    monkeypatch.delenv("LIMBECK_DATA")
    with pytest.raises(DataError, match="LIMBECK_DATA"):
        CelebA(size=4).load()


def test_what_is_missing_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no attribute 'Bald', but: Eyeglasses, Male, Smiling"):
        CelebA(str(folder), "Bald").load()
    with pytest.raises(DataError, match=r"center_crop 200 is larger than an image of 178 x 218"):
        CelebA(str(folder), center_crop=200).load()
    with pytest.raises(DataError, match=r"size \(0\)"):
        CelebA(str(folder), size=0).load()
    with pytest.raises(DataError, match="is not a directory"):
        CelebA(str(folder / "elsewhere")).load()
    for pattern in ("000004.jpg", "img_align_celeba", "list_eval_partition.txt", "list_attr_celeba.txt"):
        found = next(folder.rglob(pattern))
        hidden = found.rename(found.with_name("hidden"))
        with pytest.raises(DataError, match=pattern):
            CelebA(str(folder)).load()
        hidden.rename(found)


@pytest.mark.parametrize(
    ("pattern", "line", "message"),
    [
        ("list_attr_celeba.txt", "000009.jpg 1 -1", r"line 11: expected a file name and 1 or -1 for each of 3"),
        ("list_attr_celeba.txt", "000009.jpg 0 1 1", r"line 11"),
        ("list_eval_partition.txt", "000009.jpg 3", r"line 9: expected a file name and 0, 1 or 2"),
        ("list_eval_partition.txt", "000009.jpg 0", r"000009.jpg is in list_eval_partition.txt but not in"),
    ],
)
def test_broken_lists_are_told(folder: Path, pattern: str, line: str, message: str) -> None:
    path = next(folder.rglob(pattern))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=message):
        CelebA(str(folder), size=4).load()
