"""Reading drawings from the files in which they are published, all to stroke-3."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from xml.etree import ElementTree
from zipfile import BadZipFile

import numpy as np

from limbeck.data.sequences.stroke_dataset import Drawing
from limbeck.errors import DataError

__all__ = ["Drawings", "read_drawings", "to_offsets"]

Drawings = dict[str, list[tuple[str, Drawing]]]
"""Split to its drawings, each with the name of its group: drawings of one group belong into one split."""

_SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}

_UNREADABLE = (
    AttributeError, BadZipFile, ElementTree.ParseError, EOFError, KeyError, OSError, TypeError, UnpicklingError,
    ValueError,
)  # fmt: skip


def read_drawings(path: Path, *, allow_pickle: bool = False) -> Drawings:
    """Read a file or directory of drawings.

    Args:
        path: an ``.npz`` with flat arrays (``train_points``, ``train_offsets``, ...) or with one array of arrays per
            split; an ``.ndjson`` of simplified drawings; or a directory of XML files (``lineStrokes``).
        allow_pickle: read arrays of arrays, which are pickles: these run code, so allow only files that you trust.

    Returns:
        Split (train, validation, test) to drawings; all are in train if the format has no splits.

    Raises:
        DataError: the path is missing, unreadable, or holds something else.
    """
    try:
        if path.is_dir():
            return {"train": _read_xml(path)}
        if path.suffix == ".npz":
            return _read_npz(path, allow_pickle)
        if path.suffix == ".ndjson":
            return {"train": _read_ndjson(path)}
    except _UNREADABLE as error:
        raise DataError(f"{path} cannot be read as drawings ({type(error).__name__}: {error}).") from error
    raise DataError(
        f"{path} is neither an .npz nor an .ndjson file nor a directory of XML files with drawings; check the path."
    )


def to_offsets(strokes: Iterable[Sequence[Sequence[float]]]) -> Drawing:
    """Strokes of absolute points as stroke-3; the first offset is zero.

    Args:
        strokes: for each stroke a sequence of x and one of y, of one length.

    Returns:
        Shape (points, 3).

    >>> to_offsets([([1, 4], [1, 5]), ([4], [4])]).tolist()
    [[0.0, 0.0, 0.0], [3.0, 4.0, 1.0], [0.0, -1.0, 1.0]]
    """
    parts = []
    for x, y, *_ in strokes:
        if len(x) != len(y):
            raise ValueError(f"a stroke has {len(x)} x but {len(y)} y")
        pen = np.zeros(len(x))
        pen[-1:] = 1.0
        parts.append(np.column_stack([np.asarray(x, np.float64), np.asarray(y, np.float64), pen]))
    if not parts:
        return np.zeros((0, 3))
    points = np.concatenate(parts)
    points[:, :2] -= np.concatenate([points[:1, :2], points[:-1, :2]])
    return points


def _read_npz(path: Path, allow_pickle: bool) -> Drawings:
    found: Drawings = {}
    # Files of Python 2 hold their text as bytes, which "latin1" reads as they are.
    with np.load(path, allow_pickle=allow_pickle, encoding="latin1") as file:
        for split, names in _SPLITS.items():
            for name in names:
                if f"{name}_points" in file:
                    points, offsets = file[f"{name}_points"], file[f"{name}_offsets"]
                    ends = [int(offset) for offset in offsets[[0, -1]]] if len(offsets) else []
                    if ends != [0, len(points)] or (np.diff(offsets) < 0).any():
                        raise ValueError(
                            f"{name}_offsets do not divide the {len(points)} rows of {name}_points: they must rise "
                            f"from 0 to {len(points)}"
                        )
                    found[split] = _named(np.split(points, offsets[1:-1]) if len(offsets) > 1 else [])
                elif name in file:
                    found[split] = _named(_objects(file, name, path))
    if "train" not in found:
        raise DataError(
            f"{path} has neither train_points and train_offsets nor train; one of these must hold the drawings."
        )
    return found


def _objects(file: Any, name: str, path: Path) -> list[Drawing]:
    try:
        return list(file[name])
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"{path}: its array {name!r} is a pickle, which runs code when it is read. If you trust the file, set "
            "allow_pickle: true; else convert it to flat arrays (train_points, train_offsets, ...)."
        ) from None


def _read_ndjson(path: Path) -> list[tuple[str, Drawing]]:
    with path.open(encoding="utf-8") as lines:
        return _named([to_offsets(json.loads(line)["drawing"]) for line in lines if line.strip()])


def _read_xml(path: Path) -> list[tuple[str, Drawing]]:
    """One line of handwriting per file; the lines of one form, in one folder, are by one writer."""
    files = sorted(path.rglob("*.xml"))
    inside = [file for file in files if "lineStrokes" in file.relative_to(path.parent).parts]
    drawings = []
    for file in inside or files:
        sets = list(ElementTree.parse(file).iter("StrokeSet"))
        if not sets:
            continue  # the transcriptions of the same lines are XML files, too
        points = [[(float(p.get("x", "")), float(p.get("y", ""))) for p in s.iter("Point")] for s in sets[0]]
        drawing = to_offsets([tuple(zip(*stroke, strict=True)) for stroke in points if stroke])
        drawings.append((str(file.parent.relative_to(path)), drawing))
    if not drawings:
        raise DataError(f"{path} has no XML file with a StrokeSet; give the directory lineStrokes.")
    return drawings


def _named(drawings: Iterable[Any]) -> list[tuple[str, Drawing]]:
    """Drawings that are groups of their own."""
    result = []
    for index, drawing in enumerate(drawings):
        array = np.asarray(drawing)
        if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iuf":
            raise ValueError(f"drawing {index} is {array.dtype} of shape {array.shape}, not numbers of shape (N, 3)")
        result.append((str(index), array))
    return result
