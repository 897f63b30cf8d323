"""``--data=FOLDER`` on the command line: the images of a directory, in their own size."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.cli.known_classes import known_names, meant, told
from limbeck.cli.words import option, take
from limbeck.errors import RecipeError

__all__ = ["folder_words"]

_TABLES = (".csv", ".npy", ".npz", ".parquet")
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def folder_words(words: Sequence[str]) -> list[str]:
    """Replace a directory or a table given as ``--data`` by the class that reads it and its path, for the parser.

    Size and channels, where they are not given, are those of one of the images.

    Args:
        words: a command line; if its ``--data`` is a class, it is returned as it is.

    Raises:
        RecipeError: there is no such directory or class, the directory holds no images, or they are not square.

    Example:
        >>> folder_words(["--data=limbeck.data.Digits"])
        ['--data=limbeck.data.Digits']
    """
    given = option(words, "--data")
    if given is None:
        return list(words)
    _, others = take(words, "--data".__eq__)
    if not Path(given).expanduser().is_dir():
        return [*_table_words(given), *others]
    found = ["--data=limbeck.data.Images", f"--data.path={given}"]
    size_given, channels_given = (option(words, name) is not None for name in ("--data.size", "--data.channels"))
    if size_given and channels_given:
        return [*found, *others]
    width, height, channels = _look(Path(given).expanduser())
    if not size_given:
        if width != height:
            raise RecipeError(
                f"--data={given}: images are {width} x {height} pixels, but networks take squares; give --data.size="
                f"{min(width, height)} or the like, and --data.resize=bilinear to resize rather than pad them"
            )
        found.append(f"--data.size={width}")
    if not channels_given:
        found.append(f"--data.channels={channels}")
    return [*found, *others]  # the class comes before what the words say of its arguments


def _table_words(given: str) -> list[str]:
    """``--data`` for what is no directory: a file of a table with the class that reads it, or the class that is named.

    Raises:
        RecipeError: it is neither.
    """
    path = Path(given).expanduser()
    if path.suffix in _TABLES and path.is_file():
        return ["--data=limbeck.data.Tabular", f"--data.path={given}"]
    if path.suffix in _TABLES:
        raise RecipeError(f"--data={given}: there is no such file")
    if path.is_file() or path.suffix == ".py":
        raise RecipeError(
            f"--data={given} names a file; give a directory of images, a table ({', '.join(_TABLES)}) or a class such "
            "as limbeck.data.Digits"
        )
    if "/" in given or "\\" in given:
        raise RecipeError(f"--data={given}: there is no such directory")
    if given.isidentifier() and given not in {known.rpartition(".")[2] for known in known_names("data")}:
        raise RecipeError(f"--data={given}: there is no such directory or class{told(meant('data', given))}")
    return [f"--data={given}"]


def _look(root: Path) -> tuple[int, int, int]:
    """Width, height and channels of one image of a directory."""
    for path in sorted(root.rglob("*.parquet")):
        content = _first_bytes(path)
        if content is not None:
            return _shape(io.BytesIO(content))
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in _IMAGES and not path.name.startswith("."):
            try:
                return _shape(path)
            except OSError:
                raise RecipeError(f"--data={root}: {path} is damaged, or no image; repair or remove it") from None
    raise RecipeError(f"--data={root}: the directory holds neither Parquet files nor images ({', '.join(_IMAGES)})")


def _shape(source: Path | io.BytesIO) -> tuple[int, int, int]:
    from PIL import Image

    with Image.open(source) as image:
        return image.width, image.height, 1 if image.mode in ("L", "1", "I;16") else 3


def _first_bytes(path: Path) -> bytes | None:
    """The first image of a Parquet file in the layout of the hub; ``None`` if it has none."""
    try:
        pq: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        return None
    for batch in pq.ParquetFile(path).iter_batches(batch_size=1):
        for value in batch.to_pylist()[0].values():
            if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
                found: bytes = value["bytes"]
                return found
    return None
