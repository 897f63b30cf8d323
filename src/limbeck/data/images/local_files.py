"""Which files of a directory hold the pictures of each split: told by the words in the names of folders and files."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from limbeck.errors import DataError

__all__ = ["SPLIT_WORDS", "local_files"]

SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""How sets name their splits: our name, then the words for it, in whatever case."""

_OURS = {word: ours for ours, words in SPLIT_WORDS.items() for word in words}
_USUAL = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")


def local_files(root: Path) -> tuple[str, dict[str, Any]]:
    """What the datasets library must be told to read a directory.

    Args:
        root: the directory.

    Returns:
        Name of the library's builder, and arguments for it. Its ``data_files`` are patterns by split; the library takes
        files for patterns, hence the escapes.

    Raises:
        DataError: there are no pictures, or which split or class one belongs to cannot be told.
    """
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    files = _visible(root)
    tables = [path for path in files if path.suffix == ".parquet"]
    if tables:
        members = _by_split(root, tables)
        return "parquet", {
            "data_files": {split: [_escaped(root / path) for path in part] for split, part in members.items()}
        }
    pictures = [path for path in files if path.suffix.lower() in {*_USUAL, *ImageFolder.EXTENSIONS}]
    if not pictures:
        raise DataError(f"{root} holds neither Parquet nor image files ({', '.join(_USUAL)}); check the path.")
    folders = _split_folders(root, pictures)
    patterns: dict[str, list[str]] = {} if folders else {"train": [f"{_escaped(root)}/**"]}
    for folder in folders:
        patterns.setdefault(_OURS[folder.casefold()], []).append(f"{_escaped(root / folder)}/**")
    classed = _has_classes(root, pictures, folders)
    # Left to itself the library would take the names of splits for classes.
    return "imagefolder", {"data_files": patterns, **({} if classed else {"drop_labels": True})}


def _escaped(path: Path) -> str:
    return glob.escape(str(path))


def _visible(root: Path) -> list[PurePath]:
    """Files in order, relative to the root; what is hidden and folders such as ``__MACOSX`` are no part of a set."""
    found = []
    for place, folders, files in os.walk(root, followlinks=True):
        folders[:] = [folder for folder in folders if not folder.startswith((".", "__"))]
        here = PurePath(os.path.relpath(place, root))
        found += [here / file for file in files if not file.startswith(".")]
    return sorted(found)


def _splits_in(words: Sequence[str]) -> set[str]:
    return {_OURS[word.casefold()] for word in words if word.casefold() in _OURS}


def _words(name: str) -> list[str]:
    return re.split(r"[\W_]+", name)


def _by_split(root: Path, tables: Sequence[PurePath]) -> dict[str, list[PurePath]]:
    """Split to files; those whose path names none are left out, unless that is so of all: then they are for training.

    Raises:
        DataError: a path names two splits.
    """
    members: dict[str, list[PurePath]] = {}
    for path in tables:
        folders = path.parts[:-1]
        named = _splits_in(_words(path.stem)) | _splits_in(folders)
        named = named or _splits_in([word for folder in folders for word in _words(folder)])
        if len(named) > 1:
            raise DataError(
                f"{root}: {path} names the splits {' and '.join(sorted(named))}; rename it so that it names one."
            )
        for split in named:
            members.setdefault(split, []).append(path)
    return members or {"train": list(tables)}


def _split_folders(root: Path, pictures: Sequence[PurePath]) -> list[str]:
    """The folders of the splits, if the directory is divided so.

    Raises:
        DataError: some folders are splits and others are not, or none is for training.
    """
    folders = sorted({path.parts[0] for path in pictures if len(path.parts) > 1})
    named = [folder for folder in folders if folder.casefold() in _OURS]
    others = [folder for folder in folders if folder not in named]
    if "train" in _splits_in(named) and not others:
        return named
    # "train" is also a vehicle: it is a class if it stands alone among others and has pictures but no folders.
    nested = any(len(path.parts) > 2 for path in pictures if path.parts[0] in named)
    if not nested and len(_splits_in(named)) < 2:
        deeper = {part for path in pictures for part in path.parts[1:-1] if _splits_in([part])}
        if len(_splits_in(list(deeper))) > 1:
            raise DataError(
                f"{root}: {' and '.join(sorted(deeper))} would be splits, but they lie within other folders, so that "
                "pictures for testing could be trained on; give the directory that holds them."
            )
        return []
    if others:
        beside = "them" if named[1:] else "it"
        raise DataError(
            f"{root}: {', '.join(named)} would be splits, but {', '.join(others)} beside {beside} would not, so that "
            "pictures for testing could be trained on; move the others away, or rename one kind."
        )
    raise DataError(f"{root} has no folder for training, only {', '.join(named)}; name it train.")


def _has_classes(root: Path, pictures: Sequence[PurePath], folders: Sequence[str]) -> bool:
    """Whether pictures lie in folders, which are then their classes.

    Raises:
        DataError: some lie deeper than others, so that they have no class in common with them.
    """
    inside = [path for path in pictures if not folders or path.parts[0] in folders]
    depths = {path: len(path.parts) - 1 - bool(folders) for path in inside}
    if any(depths.values()) and len(set(depths.values())) > 1 and not _described(root):
        usual = Counter(depths.values()).most_common(1)[0][0]
        odd = next(path for path in inside if depths[path] != usual)
        like = next(path for path in inside if depths[path] == usual)
        raise DataError(
            f"{root}: {odd} lies in {depths[odd]} folders{' of its split' if folders else ''} and others, such as "
            f"{like}, in {usual}, so that folders cannot be classes; move or remove it."
        )
    return any(depths.values())


def _described(root: Path) -> bool:
    """Whether a file says what the pictures are; the library then reads no classes off folders."""
    return any(path.name in ("metadata.csv", "metadata.jsonl") for path in _visible(root))
