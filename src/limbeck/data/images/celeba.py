"""CelebA as its owners publish it, with any of its attributes as the label."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.choices import check_choice
from limbeck.data.dataset import DataSource
from limbeck.data.images.image_dataset import ImageDataset, ImageSplit
from limbeck.data.images.shaping import Resize, shaped
from limbeck.errors import DataError

__all__ = ["CelebA"]

_FOLDER = "celeba"
_IMAGES, _ATTRIBUTES, _PARTITION = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"
_SPLITS = ("train", "validation", "test")  # in the order of the partition's numbers


class CelebA(DataSource):
    """Faces of the CelebA set (Liu et al. 2015), read from the files that its owners publish.

    Its terms do not let others pass it on: register, download and unpack it yourself, so that one directory holds
    ``img_align_celeba/*.jpg``, ``list_attr_celeba.txt`` and ``list_eval_partition.txt``; the owners' own folders
    ``Img``, ``Anno`` and ``Eval`` around them may stay. The published partition gives the splits; each is shuffled.

    Args:
        path: that directory; by default ``celeba`` inside the directory that ``$LIMBECK_DATA`` names.
        attribute: one of the 40, e.g. ``"Eyeglasses"``, ``"Male"``, ``"No_Beard"`` or ``"Smiling"``. Label 1 has it,
            label 0 has it not.
        size: pixels a side of the tensors.
        channels: 1 for grey, 3 for colour.
        center_crop: side in pixels of the centred square that is cut out before the image is shrunk; ``None`` takes
            all of the 178 x 218 pixels.
        resize: as for :class:`~limbeck.data.Images`.
        limit: at most this many rows in each split, for quick trials; ``None`` takes all.
        seed: fixes the order.

    References:
        Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015.
    """

    def __init__(
        self,
        path: str | None = None,
        attribute: str = "Eyeglasses",
        size: int = 32,
        channels: Literal[1, 3] = 3,
        center_crop: int | None = 140,
        resize: Resize = "bilinear",
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        self.path = path
        self.attribute = attribute
        self.size = size
        self.channels = channels
        self.center_crop = center_crop
        self.resize = resize
        self.limit = limit
        self.seed = seed

    @override
    def load(self) -> ImageDataset:
        """Read lists and images.

        Raises:
            DataError: a file is missing or not as published, the attribute is unknown, or an image cannot be read.
        """
        if self.size < 1 or self.channels not in (1, 3) or (self.limit is not None and self.limit < 1):
            raise DataError(
                f"CelebA: size ({self.size}) and limit ({self.limit}) must be at least 1, "
                f"channels ({self.channels}) must be 1 or 3."
            )
        check_choice(DataError, "CelebA: resize", self.resize, Resize)
        root = self._directory()
        folder = _find(root, _IMAGES, "Img")
        labels = _labels(_find(root, _ATTRIBUTES, "Anno"), self.attribute)
        members = _partition(_find(root, _PARTITION, "Eval"))
        parts = []
        for split in _SPLITS:
            names = members[split]
            order = torch.randperm(len(names), generator=torch.Generator().manual_seed(self.seed))[: self.limit]
            chosen = [names[row] for row in order.tolist()]
            missing = next((name for name in chosen if name not in labels), None)
            if missing is not None:
                raise DataError(f"{root}: {missing} is in {_PARTITION} but not in {_ATTRIBUTES}; download both again.")
            truth = torch.tensor([labels[name] for name in chosen], dtype=torch.int64)
            parts.append(ImageSplit(self._decoded(folder, chosen), truth))
        name = self.attribute
        return ImageDataset(_FOLDER, parts[0], parts[1], parts[2], classes=(f"not {name}", name))

    def _directory(self) -> Path:
        root = os.environ.get("LIMBECK_DATA")
        if self.path is None and not root:
            raise DataError("CelebA: give path, or set LIMBECK_DATA to the directory that holds the folder celeba.")
        path = Path(self.path).expanduser() if self.path is not None else Path(str(root)) / _FOLDER
        if not path.is_dir():
            raise DataError(f"{path} is not a directory; give the one that holds {_IMAGES} and {_ATTRIBUTES}.")
        return path

    def _decoded(self, folder: Path, names: list[str]) -> Tensor:
        output = torch.empty(len(names), self.channels, self.size, self.size, dtype=torch.uint8)
        with ThreadPoolExecutor() as pool:  # decoding a JPEG lets other threads run
            for row, pixels in enumerate(pool.map(partial(self._read, folder), names)):
                output[row] = pixels
        return output

    def _read(self, folder: Path, name: str) -> Tensor:
        from PIL import Image

        try:
            with Image.open(folder / name) as image:
                return shaped(image, self.size, self.channels, self.resize, self.center_crop)
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{folder / name} cannot be read ({error}); unpack the images again.") from error


def _find(root: Path, name: str, inside: str) -> Path:
    for path in (root / name, root / inside / name):
        if path.exists():
            return path
    raise DataError(f"{root} has neither {name} nor {inside}/{name}; unpack CelebA there as it is published.")


def _lines(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); download it again.") from error


def _labels(path: Path, attribute: str) -> dict[str, int]:
    """File name to 1 where the face has the attribute. Lines: a count, the attributes, then a name and +-1 each."""
    lines = _lines(path)
    attributes = lines[1] if len(lines) > 2 else []
    if attribute not in attributes:
        raise DataError(f"{path} has no attribute {attribute!r}, but: {', '.join(attributes) or 'none'}.")
    column = 1 + attributes.index(attribute)
    values = {"1": 1, "-1": 0}
    found = {}
    for number, words in enumerate(lines[2:], start=3):
        if len(words) != 1 + len(attributes) or words[column] not in values:
            raise DataError(
                f"{path}, line {number}: expected a file name and 1 or -1 for each of {len(attributes)} attributes."
            )
        found[words[0]] = values[words[column]]
    return found


def _partition(path: Path) -> dict[str, list[str]]:
    """Split to file names. Lines: a name and 0, 1 or 2."""
    members: dict[str, list[str]] = {split: [] for split in _SPLITS}
    for number, words in enumerate(_lines(path), start=1):
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise DataError(f"{path}, line {number}: expected a file name and 0, 1 or 2 for train, validation or test.")
        members[_SPLITS[int(words[1])]].append(words[0])
    return members
