"""``--data=FOLDER``: a directory of images on the command line, in the size that they have."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.cli.parsing import option
from limbeck.errors import RecipeError

__all__ = ["folder_words"]

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def folder_words(words: Sequence[str]) -> list[str]:
    """A command line whose ``--data`` names a directory, as the parser wants it: the class that reads it, its path.

    Where the words say nothing of size and channels, they are those of one of the images.

    Args:
        words: a command line; one whose ``--data`` is a class comes back as it is.

    Raises:
        RecipeError: the directory holds no images, or they are not square.

    Example:
        >>> folder_words(["--data=limbeck.data.Digits"])
        ['--data=limbeck.data.Digits']
    """
    given = option(words, "--data")
    if given is None or not Path(given).expanduser().is_dir():
        if given is not None and ("/" in given or "\\" in given):
            raise RecipeError(f"--data={given}: there is no such directory")
        return list(words)
    others, rest = [], iter(words)
    for word in rest:
        if word == "--data":
            next(rest)
        elif not word.startswith("--data="):
            others.append(word)
    found = ["--data=limbeck.data.Images", f"--data.path={given}"]
    if option(words, "--data.size") is None or option(words, "--data.channels") is None:
        width, height, channels = _look(Path(given).expanduser())
        if option(words, "--data.size") is None:
            if width != height:
                raise RecipeError(
                    f"--data={given}: images are {width} x {height} pixels; networks get squares, so give --data.size="
                    f"{min(width, height)} or the like, and --data.resize=bilinear if they are not to be padded"
                )
            found.append(f"--data.size={width}")
        if option(words, "--data.channels") is None:
            found.append(f"--data.channels={channels}")
    return [*found, *others]  # the class comes before what the words say of its arguments


def _look(root: Path) -> tuple[int, int, int]:
    """Width, height and channels of one image of a directory."""
    from PIL import Image

    for path in sorted(root.rglob("*.parquet")):
        content = _first_bytes(path)
        if content is not None:
            with Image.open(io.BytesIO(content)) as image:
                return image.width, image.height, 1 if image.mode in ("L", "1", "I;16") else 3
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in _IMAGES and not path.name.startswith("."):
            try:
                with Image.open(path) as image:
                    return image.width, image.height, 1 if image.mode in ("L", "1", "I;16") else 3
            except OSError as error:
                raise RecipeError(f"--data={root}: {path} cannot be read ({error}); repair or remove it") from None
    raise RecipeError(f"--data={root}: the directory holds neither Parquet files nor images ({', '.join(_IMAGES)})")


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
