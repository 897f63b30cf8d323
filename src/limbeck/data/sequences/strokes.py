"""Pen drawings from the sets in which they are published."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch
from typing_extensions import override

from limbeck.data.dataset import DataSource
from limbeck.data.sequences.stroke_dataset import Drawing, StrokeDataset, pad_drawings, simplify_drawing
from limbeck.data.sequences.stroke_files import Drawings, read_drawings
from limbeck.errors import DataError

__all__ = ["Strokes"]

_SHARE = 0.1


class Strokes(DataSource):
    """Drawings as (dx, dy, pen, end), padded to one length.

    It reads an ``.npz`` of stroke-3 arrays, flat (``train_points``, ``train_offsets``, ...) or as in sketch-rnn's
    Omniglot and Quick-Draw files; Quick-Draw's simplified ``.ndjson``; and the directory ``lineStrokes`` of the IAM
    On-Line Handwriting Database, which its owners give to registered users.

    A set without a validation or test split gets one: a tenth of its drawings each. Lines of one handwritten form stay
    together, since they have one writer. Each split is shuffled with the seed before it is limited.

    Args:
        path: file or directory; by default ``file`` inside the directory that ``LIMBECK_DATA`` names.
        file: where it lies there.
        max_length: points of the tensors; by default those of the longest drawing.
        longer: whether longer drawings are left out or cut.
        limit: at most this many drawings in each split; ``None`` keeps all.
        simplify: largest distance, in the unit of the set, by which a point may be off the line that replaces it
            (Douglas and Peucker); ``None`` keeps all points.
        allow_pickle: read arrays of arrays in an ``.npz``. They are pickles, which run code: only for files you trust.
        seed: fixes splits and order.
    """

    def __init__(
        self,
        path: str | None = None,
        file: str = "strokes/omniglot_flat.npz",
        max_length: int | None = None,
        longer: Literal["drop", "cut"] = "drop",
        limit: int | None = None,
        simplify: float | None = None,
        allow_pickle: bool = False,
        seed: int = 0,
    ) -> None:
        self.path = path
        self.file = file
        self.max_length = max_length
        self.longer = longer
        self.limit = limit
        self.simplify = simplify
        self.allow_pickle = allow_pickle
        self.seed = seed

    @override
    def load(self) -> StrokeDataset:
        """Read, split, simplify and pad the drawings.

        Raises:
            DataError: there is no such place, a file cannot be read, or nothing is left.
        """
        if any(number is not None and number < 1 for number in (self.max_length, self.limit)):
            raise DataError(f"Strokes: max_length ({self.max_length}) and limit ({self.limit}) must be at least 1.")
        if self.longer not in ("drop", "cut") or not (self.simplify is None or self.simplify > 0):
            raise DataError(f"Strokes: longer ({self.longer!r}) is drop or cut, simplify ({self.simplify}) positive.")
        place = self._place()
        found = read_drawings(place, allow_pickle=self.allow_pickle)
        for split, part in found.items():
            empty = next((name for name, drawing in part if not len(drawing)), None)
            if empty is not None:
                raise DataError(f"{place} has a drawing without points, {empty} of {split}; repair the file.")
        drawings = {split: [self._shaped(drawing) for drawing in part] for split, part in self._splits(found).items()}
        lengths = [len(drawing) for part in drawings.values() for drawing in part]
        if not lengths:
            raise DataError(f"{place} has no drawings; repair the file.")
        length = self.max_length or max(lengths)
        padded = {split: pad_drawings(part, length, self.longer) for split, part in drawings.items()}
        parts = {
            split: part.take(range(min(self.limit or len(part), len(part)))) for split, (part, _) in padded.items()
        }
        longer = sum(count for _, count in padded.values())
        return StrokeDataset(place.stem, parts["train"], parts["validation"], parts["test"], longer=longer)

    def _place(self) -> Path:
        if self.path is not None:
            return Path(self.path).expanduser().absolute()
        root = os.environ.get("LIMBECK_DATA")
        place = Path(root or "", self.file).absolute()
        if not root or not place.exists():
            raise DataError(
                f"no drawings to load: path is not given and {self.file!r} is not in the directory of the environment "
                f"variable LIMBECK_DATA ({root or 'not set'}); give data.path, a file or directory of drawings."
            )
        return place

    def _splits(self, found: Drawings) -> dict[str, list[Drawing]]:
        """All three splits, shuffled; those that are missing are cut off train, whole groups at a time."""
        generator = torch.Generator().manual_seed(self.seed)
        pool = dict(found)
        for split in ("test", "validation"):
            if split in pool:
                continue
            groups = sorted({group for group, _ in pool["train"]})
            if len(groups) < 2:
                raise DataError(
                    f"there are too few drawings to cut off a {split} split: give at least three, or of a directory of "
                    "XML files drawings in three folders, since those of one folder have one writer and stay together."
                )
            count = max(1, round(_SHARE * len(groups)))
            chosen = {groups[index] for index in torch.randperm(len(groups), generator=generator)[:count].tolist()}
            pool[split] = [pair for pair in pool["train"] if pair[0] in chosen]
            pool["train"] = [pair for pair in pool["train"] if pair[0] not in chosen]
        return {
            split: [part[index][1] for index in torch.randperm(len(part), generator=generator).tolist()]
            for split, part in pool.items()
        }

    def _shaped(self, drawing: Drawing) -> Drawing:
        return drawing if self.simplify is None else simplify_drawing(drawing, self.simplify)
