"""Pictures whose grey value is the number of their row, in tables and in files."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

datasets = pytest.importorskip("datasets")


def picture(value: int, size: tuple[int, int] = (6, 4), mode: str = "L") -> Image.Image:
    """A picture (width, height) of one grey value, bright in its upper left corner."""
    pixels = np.full((size[1], size[0]), value, dtype=np.uint8)
    pixels[0, 0] = 255
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def parquet(directory: Path, split: str, rows: list[dict[str, object]], features: object = None) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows, features=features).to_parquet(directory / f"{split}-00000-of-00001.parquet")


FEATURES = datasets.Features(
    {"img": datasets.Image(), "number": datasets.Value("int64"), "kind": datasets.ClassLabel(names=["dark", "light"])}
)


def rows(count: int, first: int = 0) -> list[dict[str, object]]:
    """Sorted by class; the grey value is the row's number."""
    return [
        {"img": {"bytes": encoded(picture(first + i)), "path": f"{i}.png"}, "number": i, "kind": int(2 * i >= count)}
        for i in range(count)
    ]


def values(images: torch.Tensor) -> list[int]:
    """Grey value of each 6x4 picture that was centred in 8x8."""
    return images[:, 0, 4, 4].tolist()


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
