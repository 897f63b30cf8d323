"""A sweep as lines: one measure of each method against an axis or against the size, and straight lines through them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.metrics.results import RunResults
from limbeck.metrics.sweep_results import SweepAxis, SweepPoint, SweepResults, value_text

__all__ = ["Finished", "Fit", "Line", "Panel", "Sweep", "axis_panels", "is_constant", "is_logarithmic", "is_numeric",
           "label_of", "read_sweep", "size_panels", "straight_line"]  # fmt: skip

SIZE = "parameters_generative"
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*){2,}")
_DECADES = 1.5  # values over more decades than this are shown on a logarithmic axis


@dataclass(frozen=True)
class Finished:
    """A point with its numbers."""

    point: SweepPoint
    results: RunResults


@dataclass(frozen=True)
class Sweep:
    """A sweep's directory: its record and the records of its finished points."""

    directory: Path
    record: SweepResults
    finished: list[Finished]


@dataclass(frozen=True)
class Line:
    """One method: where it was measured, and the values of all seeds there."""

    method: str
    at: list[float]
    values: list[list[float]]


@dataclass(frozen=True)
class Panel:
    """Lines that belong in one picture; ``title`` says what is held fixed."""

    title: str
    lines: list[Line]


@dataclass(frozen=True)
class Fit:
    """A straight line by least squares; ``r2`` is the share of the variance that it explains."""

    slope: float
    intercept: float
    r2: float
    count: int


def read_sweep(directory: str | Path) -> Sweep:
    """Read ``sweep.json`` and the ``metrics.json`` of every point that finished.

    Raises:
        DataError: one of them is missing or is no such record.
    """
    directory = Path(directory)
    record = SweepResults.from_file(directory / "sweep.json")
    finished = [
        Finished(point, RunResults.from_file(directory / point.name / "metrics.json"))
        for point in record.points
        if not point.error
    ]
    return Sweep(directory, record, finished)


def is_numeric(axis: SweepAxis) -> bool:
    """Whether an axis is a line of numbers rather than a list of names."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in axis.values)


def is_logarithmic(places: Sequence[float]) -> bool:
    """Whether the places of an axis call for a logarithmic scale; zero may be among them, shown beside it.

    >>> is_logarithmic([0, 1e-3, 1]), is_logarithmic([4, 8, 16]), is_logarithmic([-1, 100])
    (True, False, False)
    """
    positive = [at for at in places if at > 0]
    return min(places) >= 0 and len(positive) > 1 and bool(np.log10(max(positive) / min(positive)) > _DECADES)


def label_of(axes: Sequence[SweepAxis], values: Iterable[Any]) -> str:
    """A point, or what is held fixed, in words.

    >>> label_of([SweepAxis("width", ["student.width"], [4, 8])], [4])
    'width = 4'
    """
    return ", ".join(f"{axis.label} = {_text(axis, value)}" for axis, value in zip(axes, values))


def axis_panels(sweep: Sweep, number: int, measure: str) -> list[Panel]:
    """A measure against a numeric axis, a panel for each combination of the other axes' values.

    Args:
        sweep: the sweep.
        number: which axis.
        measure: key of the measure.
    """
    return _panels(sweep, {number}, measure, lambda found, method: float(found.point.values[number]))


def size_panels(sweep: Sweep, measure: str) -> list[Panel]:
    """A measure against the number of generative parameters; none if all students are of one size.

    Axes that change a student's size are followed along the line; the others make panels.
    """
    axes = range(len(sweep.record.axes))
    changing = {number for number in axes if _changes_size(sweep, number)}
    if not changing:
        return []
    return _panels(sweep, changing, measure, _size)


def is_constant(line: Line) -> bool:
    """Whether the models are the same at all of several places: the axis does not change them."""
    return len(line.at) > 1 and all(values == line.values[0] for values in line.values)


def straight_line(line: Line) -> Fit | None:
    """The straight line through all values; ``None`` with fewer than three places, where there is nothing to judge.

    >>> straight_line(Line("a", [1.0, 2.0, 3.0], [[1.0], [3.0], [5.0]]))
    Fit(slope=2.0, intercept=-1.0, r2=1.0, count=3)
    """
    at = np.array([x for x, values in zip(line.at, line.values) for _ in values])
    values = np.array([value for values in line.values for value in values])
    if len(np.unique(at)) < 3:
        return None
    slope, intercept = (
        float(np.round(number, 12)) for number in np.polynomial.Polynomial.fit(at, values, 1, []).coef[::-1]
    )
    total = float(((values - values.mean()) ** 2).sum())
    rest = float(((values - intercept - slope * at) ** 2).sum())
    # Values that do not differ have no variance to explain; neither has what is left of it by rounding.
    known = total > 1e-18 * float((values**2).sum())
    return Fit(slope, intercept, 1.0 - rest / total if known else float("nan"), len(values))


def _panels(sweep: Sweep, along: set[int], measure: str, place: Callable[[Finished, str], float | None]) -> list[Panel]:
    axes = sweep.record.axes
    others = [number for number in range(len(axes)) if number not in along]
    panels = []
    for fixed in itertools.product(*(axes[number].values for number in others)):
        group = [f for f in sweep.finished if [f.point.values[number] for number in others] == list(fixed)]
        methods = dict.fromkeys(method for found in group for method in _comparable(found.results))
        lines = [line for method in methods if (line := _line(group, method, measure, place))]
        if lines:
            panels.append(Panel(label_of([axes[number] for number in others], fixed), lines))
    return panels


def _line(
    group: Sequence[Finished], method: str, measure: str, place: Callable[[Finished, str], float | None]
) -> Line | None:
    """One method over a group of points, the first of those that share a place; ``None`` if it was measured at none."""
    found: dict[float, list[float]] = {}
    for one in group:
        at, values = place(one, method), one.results.values(method, measure)
        if at is not None and values:
            found.setdefault(at, values)
    return Line(method, sorted(found), [found[at] for at in sorted(found)]) if found else None


def _comparable(results: RunResults) -> list[str]:
    """The models whose numbers can share an axis: not a teacher that was measured on other data than its students."""
    return [method for method in results.methods if method != "teacher" or not results.teacher_elsewhere]


def _size(found: Finished, method: str) -> float | None:
    sizes = [size for size in found.results.values(method, SIZE) if size > 0]
    return sizes[0] if sizes else None


def _changes_size(sweep: Sweep, number: int) -> bool:
    sizes: dict[tuple[str, str], set[float]] = {}
    for found in sweep.finished:
        rest = repr([value for index, value in enumerate(found.point.values) if index != number])
        for method in found.results.methods:
            size = _size(found, method)
            if method != "teacher" and size is not None:
                sizes.setdefault((method, rest), set()).add(size)
    return any(len(found) > 1 for found in sizes.values())


def _text(axis: SweepAxis, value: Any) -> str:
    """A value in short, if the axis has no other that looks the same then."""
    distinct = len({_short(other) for other in axis.values}) == len(axis.values)
    return _short(value) if distinct else str(value)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return value_text(value)
    # Names in a package, such as limbeck.methods.local, by their last part; name.csv is none.
    return value.rpartition(".")[2] if isinstance(value, str) and _DOTTED.fullmatch(value) else str(value)
