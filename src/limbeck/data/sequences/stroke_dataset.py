"""Pen drawings, point after point, in three splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import override

from limbeck.data.dataset import Dataset, Split
from limbeck.errors import DataError

__all__ = ["Drawing", "StrokeDataset", "StrokeSplit", "pad_drawings", "simplify_drawing"]

Drawing = npt.NDArray[Any]
"""One drawing as stroke-3: rows (dx, dy, pen), shape (points, 3); pen is 1 where the pen lifts after the point."""


@dataclass(frozen=True, eq=False)
class StrokeSplit(Split):
    """The rows of one split of a set of drawings.

    Attributes:
        strokes: float32, shape (rows, length, 4): offset (dx, dy) from the point before in the set's own unit, pen (1
            where it lifts after the point) and end (1 at the last point). All is zero after the end; a drawing
            without an end was cut off.
    """

    strokes: Tensor

    @property
    def lengths(self) -> Tensor:
        """Points of each drawing, int64, shape (rows,)."""
        ended = self.strokes[..., 3].cumsum(1)
        return torch.where(ended[:, -1] > 0, (ended == 0).sum(1) + 1, self.strokes.shape[1])


@dataclass(frozen=True, eq=False)
class StrokeDataset(Dataset):
    """Drawings.

    Attributes:
        longer: drawings that were longer than the set's length, and were left out or cut.

    >>> part = StrokeSplit(torch.tensor([[[0.0, 0.0, 0.0, 0.0], [3.0, 4.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]]))
    >>> StrokeDataset("lines", part, part, part).test.lengths
    tensor([2])
    """

    train: StrokeSplit
    validation: StrokeSplit
    test: StrokeSplit
    longer: int = 0

    @override
    def check(self, split: Split, where: str) -> None:
        """See :class:`Dataset`: shape, dtype, non-finite offsets, flags, drawings that go on after their end."""
        assert isinstance(split, StrokeSplit)
        strokes = split.strokes
        if strokes.ndim != 3 or strokes.shape[2] != 4 or strokes.dtype != torch.float32:
            raise DataError(
                f"{where}: strokes are {strokes.dtype} of shape {tuple(strokes.shape)}; expected float32 of shape "
                "(rows, length, 4): dx, dy, pen, end."
            )
        if not strokes.numel():
            raise DataError(f"{where} has no drawings: use more files, a larger limit or a larger max_length.")
        if strokes.shape[1] != self.train.strokes.shape[1]:
            raise DataError(f"{where}: its drawings have another length than those of train; pad all to one length.")
        bad = int((~strokes.isfinite()).flatten(1).any(1).sum())
        if bad:
            raise DataError(f"{where}: {bad} of {len(strokes)} drawings have points that are NaN or infinite.")
        flags = strokes[..., 2:]
        wrong = int(((flags != 0) & (flags != 1)).flatten(1).any(1).sum())
        if wrong:
            raise DataError(f"{where}: pen or end of {wrong} of {len(strokes)} drawings is neither 0 nor 1.")
        after = torch.arange(strokes.shape[1]) >= split.lengths[:, None]
        going_on = int(((strokes != 0).any(2) & after).any(1).sum())
        if going_on:
            raise DataError(f"{where}: {going_on} of {len(strokes)} drawings go on after their end; pad with zeros.")


def pad_drawings(
    drawings: Sequence[Drawing], length: int, longer: Literal["drop", "cut"] = "drop"
) -> tuple[StrokeSplit, int]:
    """Drawings as one tensor.

    Args:
        drawings: stroke-3 arrays, shape (points, 3).
        length: points of the tensor.
        longer: whether a longer drawing is left out, or loses what is beyond (it then has no end).

    Returns:
        The split, and how many drawings were longer.

    >>> split, longer = pad_drawings([np.array([[0, 0, 0], [3, 4, 1]]), np.zeros((9, 3))], length=3)
    >>> split.strokes.tolist(), longer
    ([[[0.0, 0.0, 0.0, 0.0], [3.0, 4.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]], 1)
    """
    kept = [drawing for drawing in drawings if len(drawing) <= length or longer == "cut"]
    output = np.zeros((len(kept), length, 4), dtype=np.float32)
    for row, drawing in enumerate(kept):
        output[row, : len(drawing), :3] = drawing[:length]
        if len(drawing) <= length:
            output[row, len(drawing) - 1, 3] = 1.0
    return StrokeSplit(torch.from_numpy(output)), sum(len(drawing) > length for drawing in drawings)


def simplify_drawing(drawing: Drawing, epsilon: float) -> Drawing:
    """Leave out points that lie nearer than ``epsilon`` to the line between those that are kept, stroke by stroke.

    Args:
        drawing: stroke-3, shape (points, 3).
        epsilon: largest distance, in the unit of the offsets.

    Returns:
        Stroke-3 with at most as many points; ends of strokes are kept.

    References:
        D. Douglas, T. Peucker, Algorithms for the Reduction of the Number of Points, 1973.

    >>> simplify_drawing(np.array([[0.0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 2, 1]]), 0.5).tolist()
    [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 2.0, 1.0]]
    """
    points = np.cumsum(drawing[:, :2].astype(np.float64), axis=0)
    lifts = np.flatnonzero(drawing[:, 2])
    last = [*lifts.tolist(), *([len(drawing) - 1] if not len(lifts) or lifts[-1] < len(drawing) - 1 else [])]
    keep = np.zeros(len(drawing), dtype=bool)
    first = 0
    for end in last:
        spans = [(first, end)]
        while spans:
            start, stop = spans.pop()
            keep[[start, stop]] = True
            if stop - start < 2:
                continue
            along, away = points[stop] - points[start], points[start + 1 : stop] - points[start]
            # The nearest point of the segment, not of the line, so that a stroke that turns back keeps its turn.
            share = np.clip(away @ along / max(float(along @ along), np.finfo(np.float64).tiny), 0.0, 1.0)
            distance = np.linalg.norm(away - share[:, None] * along, axis=1)
            if distance.max() > epsilon:
                middle = start + 1 + int(distance.argmax())
                spans += [(start, middle), (middle, stop)]
        first = end + 1
    kept = points[keep]
    offsets = np.diff(kept, axis=0, prepend=np.zeros((1, 2)))
    return np.column_stack([offsets, drawing[keep, 2]])
