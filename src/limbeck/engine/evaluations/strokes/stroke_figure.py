"""Drawings as a picture: real ones above those of a model, each stroke in another colour ([U] Fig. 5)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from limbeck.metrics import drawing_lengths
from limbeck.pictures import save_figure

__all__ = ["save_drawings"]

_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")
_CELL = 0.9  # inches


def save_drawings(real: Tensor | None, drawn: Tensor, path: Path, columns: int = 8) -> Path:
    """Write a grid of drawings, the first row real if there are any.

    Args:
        real: shape (rows, length, 4): dx, dy, pen, end; y grows downwards. ``None`` for a model's drawings alone.
        drawn: of a model, the same.
        path: the PNG file.
        columns: drawings in a row of the grid; as many real ones are shown.

    Returns:
        The path written.

    Raises:
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    shown = [*(() if real is None else _polylines(real[:columns])), *_polylines(drawn)]
    labels = {} if real is None else {0: "data", columns: "model"}
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(_CELL * columns, _CELL * rows + 0.2), dpi=110, layout="compressed")
    for index, strokes in enumerate(shown):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
        axes.margins(0.1)
        axes.invert_yaxis()
        for number, (x, y) in enumerate(strokes):
            # A line through a single point would not be seen.
            marker = "." if len(x) == 1 else None
            axes.plot(x, y, color=_COLOURS[number % len(_COLOURS)], linewidth=1.2, marker=marker, markersize=3)
        if index in labels:
            axes.set_ylabel(labels[index], fontsize=8)
    return save_figure(figure, path)


def _polylines(strokes: Tensor) -> list[list[tuple[list[float], list[float]]]]:
    """For each drawing, for each stroke, x and y of its points."""
    drawings = []
    positions, pens = strokes[..., :2].cumsum(1).tolist(), strokes[..., 2].tolist()
    for points, pen, length in zip(positions, pens, drawing_lengths(strokes).tolist(), strict=True):
        lines: list[tuple[list[float], list[float]]] = [([], [])]
        for (x, y), lifted in zip(points[:length], pen[:length], strict=True):
            lines[-1][0].append(x)
            lines[-1][1].append(y)
            if lifted:
                lines.append(([], []))
        drawings.append([line for line in lines if line[0]])
    return drawings
