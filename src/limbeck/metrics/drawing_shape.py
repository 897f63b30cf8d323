"""Numbers that describe a whole drawing, so that two sets of drawings can be compared."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.errors import DataError

__all__ = ["DRAWING_FEATURES", "drawing_features", "drawing_lengths", "standardised"]

DRAWING_FEATURES = ("points", "strokes", "ink", "air", "width", "height", "turning", "closing")
"""What the columns of :func:`drawing_features` are."""


def drawing_lengths(strokes: Tensor) -> Tensor:
    """Points of each drawing up to its end, int64 of shape (rows,); see :func:`drawing_features`."""
    ended = (strokes[..., 3] != 0).cumsum(1)
    return ((ended == 0).sum(1) + 1).clamp(max=strokes.shape[1])


def drawing_features(strokes: Tensor) -> Tensor:
    """Features of whole drawings, which need no network.

    The columns are :data:`DRAWING_FEATURES`: number of points and of strokes; length of the path with the pen down
    (ink) and up (air); width and height of the bounding box; total absolute turning along the strokes, in radians;
    distance between the first and the last point. Lengths are in the unit of the offsets. What comes after an end
    is ignored.

    Args:
        strokes: shape (rows, length, 4): dx, dy, pen (1 where it lifts after the point), end.

    Returns:
        Shape (rows, 8), float64.

    Raises:
        DataError: the shape is another, or a drawing is not finite.

    >>> line = torch.tensor([[[0.0, 0.0, 0.0, 0.0], [3.0, 4.0, 1.0, 0.0], [0.0, 5.0, 1.0, 1.0], [9.0, 9.0, 1.0, 0.0]]])
    >>> drawing_features(line)[0].tolist()
    [3.0, 2.0, 5.0, 5.0, 3.0, 9.0, 0.0, 9.486832980505138]
    """
    if strokes.ndim != 3 or strokes.shape[2] != 4 or not strokes.numel():
        raise DataError(f"drawings have shape {tuple(strokes.shape)}; expected (rows, length, 4): dx, dy, pen, end.")
    if not bool(strokes.isfinite().all()):
        raise DataError("drawings have points that are NaN or infinite; the model that drew them is broken.")
    strokes = strokes.detach().cpu().double()
    length = drawing_lengths(strokes)
    there = torch.arange(strokes.shape[1]) < length[:, None]
    offset = strokes[..., :2] * there[..., None]
    pen = (strokes[..., 2] != 0) & there
    # The first offset only places the drawing; the offset after a lift is a way through the air.
    through_air = torch.cat([torch.zeros_like(pen[:, :1]), pen[:, :-1]], dim=1) & there
    on_paper = there & ~through_air
    on_paper[:, 0] = False
    distance = torch.linalg.vector_norm(offset, dim=2)
    position = offset.cumsum(1)
    position = position - position[:, :1]
    box = position.amax(1) - position.amin(1)  # after the end, the last point is repeated
    before, after = offset[:, :-1], offset[:, 1:]
    cross = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
    turns = torch.atan2(cross.abs(), (before * after).sum(2)) * (on_paper[:, :-1] & on_paper[:, 1:])
    # The end closes a stroke whether or not the pen lifts there.
    last_open = ~pen.gather(1, length[:, None] - 1).squeeze(1)
    columns = [
        length.double(),
        pen.sum(1) + last_open.double(),
        (distance * on_paper).sum(1),
        (distance * through_air).sum(1),
        box[:, 0],
        box[:, 1],
        turns.sum(1),
        torch.linalg.vector_norm(position[:, -1], dim=1),
    ]
    return torch.stack(columns, dim=1)


def standardised(features: Tensor, reference: Tensor) -> Tensor:
    """Features in standard deviations from the mean of a reference set, so that the units of columns do not matter.

    Args:
        features: shape (rows, columns).
        reference: shape (other rows, columns). A column that is constant in it is only centred.

    Returns:
        Shape (rows, columns).

    >>> standardised(torch.tensor([[4.0, 7.0]]), torch.tensor([[0.0, 7.0], [2.0, 7.0]]))
    tensor([[3., 0.]])
    """
    spread = reference.std(0, correction=0)
    varies = reference.amax(0) > reference.amin(0)  # asked so, since the rounding of a mean gives a constant a spread
    return (features - reference.mean(0)) / torch.where(varies, spread, 1.0)
