"""Reading what a training left beside its model in numbers: its history, and what it learned of variances."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["Curves", "Series", "file_bytes", "read_curves", "read_variances"]

Series = npt.NDArray[np.float64]

_NOT_TERMS = frozenset({"step", "total", "validation", "learning_rate", "seconds"})
_LAST = "seconds"  # of the columns that every history has
_POINTS = 300  # that a curve is thinned to: more cannot be seen and would swell the page
_LARGEST = 20_000_000  # bytes: a picture or history beyond this is not put into a page


@dataclass(frozen=True)
class Curves:
    """One ``history.csv``: the loss and its weighted terms at some steps.

    Attributes:
        steps: step of each row.
        total: the loss; NaN where the cell is blank.
        terms: name to weighted contribution, in the order of the file.
        observed: name to what is no part of the loss: the columns behind ``seconds``.
    """

    steps: Series
    total: Series
    terms: dict[str, Series]
    observed: dict[str, Series] = field(default_factory=dict)


def file_bytes(path: Path) -> bytes | None:
    """What is in a file; ``None`` if it cannot be read or is too large for a page."""
    try:
        return path.read_bytes() if path.stat().st_size <= _LARGEST else None
    except (OSError, ValueError):
        return None


def read_curves(path: Path) -> Curves | None:
    """Read a ``history.csv``: columns ``step``, ``total``, one for each term, and behind ``seconds`` what was observed.

    Blank or unreadable cells become NaN; rows without a step are left out (the last row of a run that was killed may be
    cut short). A later row for a step replaces an earlier one.

    Args:
        path: the file.

    Returns:
        The curves, thinned to a few hundred points by averaging; ``None`` when there is nothing to draw.
    """
    data = file_bytes(path)
    if data is None:
        return None
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8", errors="replace"))))
    except csv.Error:
        return None
    header = [name.strip() for name in rows[0]] if rows else []
    if "step" not in header:
        return None
    by_step: dict[float, list[float]] = {}
    for row in rows[1:]:
        cells = [_number(cell) for cell in row[: len(header)]]
        cells += [float("nan")] * (len(header) - len(cells))
        step = cells[header.index("step")]
        if np.isfinite(step):
            by_step[step] = cells
    if not by_step:
        return None
    table = _thin(np.array([by_step[step] for step in sorted(by_step)], dtype=np.float64))
    columns = {name: table[:, index] for index, name in enumerate(header)}
    behind = header[header.index(_LAST) + 1 :] if _LAST in header else []
    found = {k: v for k, v in columns.items() if k and k not in _NOT_TERMS and np.isfinite(v).any()}
    terms = {k: v for k, v in found.items() if k not in behind}
    total = columns.get("total")
    if total is None or not np.isfinite(total).any():
        if not terms:
            return None
        total = np.sum(list(terms.values()), axis=0)
    return Curves(columns["step"], total, terms, {k: v for k, v in found.items() if k in behind})


def read_variances(path: Path) -> dict[str, Series]:
    """Read a ``variances.json``: site to positive numbers; sites with anything else are left out."""
    data = file_bytes(path)
    try:
        raw = json.loads(data) if data else {}
        found = {str(site): np.array(values, dtype=np.float64).ravel() for site, values in raw.items()}
    except (ValueError, TypeError, AttributeError):
        return {}
    return {site: values for site, values in found.items() if len(values) and bool((values > 0).all())}


def _thin(table: Series, points: int = _POINTS) -> Series:
    if len(table) <= points:
        return table
    parts: Sequence[Series] = np.array_split(table, points)
    counts = [np.isfinite(part).sum(axis=0) for part in parts]
    sums = [np.where(np.isfinite(part), part, 0.0).sum(axis=0) for part in parts]
    return np.array([np.where(c > 0, s / np.maximum(c, 1), np.nan) for s, c in zip(sums, counts)])


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        return float("nan")
    return value if np.isfinite(value) else float("nan")
