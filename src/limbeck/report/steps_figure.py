"""A measure against the number of network evaluations: the teacher's sampler as a line, students as points."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from limbeck.metrics.results import Measure, RunResults
from limbeck.metrics.statistics import summarize
from limbeck.report.svg import HEX, log_ticks, new_axes, to_svg
from limbeck.report.table import format_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STEPS", "steps_figure"]

STEPS = "network_evaluations"
"""Key of the measure on the horizontal axis."""

_MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def steps_figure(results: RunResults, measure: Measure, colors: dict[str, str]) -> str | None:
    """The figure as SVG for the page.

    Args:
        results: the run.
        measure: on the vertical axis.
        colors: method to the name of its colour.

    Returns:
        ``None`` if no model has both a number of steps and the measure.
    """
    figure = _draw(results, measure, colors)
    if figure is None:
        return None
    means = "; ".join(
        f"{method} {format_number(at, 0)}: {format_number(mean, measure.digits)}"
        for method, at, mean, _, _ in _points(results, measure)
    )
    name = f"steps-{measure.key}-{results.name}"
    return to_svg(figure, name, f"{measure.label} against the number of network evaluations. {means}.")


def _points(results: RunResults, measure: Measure) -> list[tuple[str, float, float, float, float]]:
    """Method, steps, mean, and the ends of the interval (the mean where there is none)."""
    found = []
    for method in results.methods:
        steps, values = results.values(method, STEPS), results.values(method, measure.key)
        if steps and values:
            summary = summarize(values)
            low, high = (summary.low, summary.high) if summary.count > 1 else (summary.mean, summary.mean)
            found.append((method, summarize(steps).mean, summary.mean, low, high))
    return found


def _draw(results: RunResults, measure: Measure, colors: dict[str, str]) -> Figure | None:
    points = _points(results, measure)
    if not points:
        return None
    figure, axes = new_axes(4.7, 3.1)
    ink = HEX["ink"]
    own = sorted((at, mean) for method, at, mean, _, _ in points if method not in results.students)
    if own:
        axes.plot([at for at, _ in own], [mean for _, mean in own], color=ink, linewidth=1.6, marker=".", markersize=8)
    labels: list[tuple[float, float, str, str]] = [(*own[-1], "teacher", ink)] if own else []
    students = [point for point in points if point[0] in results.students]
    for index, (method, at, mean, low, high) in enumerate(students):
        marker, color = _MARKERS[index % len(_MARKERS)], HEX[colors[method]]
        # An end at or below 0 has no place on a logarithmic axis.
        low = max(low, mean / 100) if mean > 0 else low
        axes.plot([at, at], [low, high], color=color, linewidth=1.2, alpha=0.8)
        axes.plot(at, mean, marker, color=color, markersize=6.5, markeredgewidth=0)
        labels.append((at, mean, method, color))
    _scale(axes, points)
    _write(axes, labels)
    axes.set_xlabel("evaluations of the network for one image")
    better = {"lower": ", lower is better", "higher": ", higher is better", "neither": ""}[measure.better]
    axes.set_ylabel(textwrap.fill(f"{measure.label}{better}", 36))
    found: Figure = figure
    return found


def _scale(axes: Any, points: list[tuple[str, float, float, float, float]]) -> None:
    """Logarithmic in steps, and in the measure unless a mean is not positive; intervals may run off the edge."""
    steps, means = [at for _, at, _, _, _ in points], [mean for _, _, mean, _, _ in points]
    axes.set_xscale("log")
    axes.set_xlim(min(steps) / 1.3, max(steps) * 2.2)
    log_ticks(axes.xaxis)
    if min(means) > 0:
        axes.set_yscale("log")
        axes.set_ylim(min(means) / 1.4, max(means) * 1.4)
        log_ticks(axes.yaxis)


def _write(axes: Any, labels: list[tuple[float, float, str, str]]) -> None:
    """The names beside their points, moved apart where they would overlap."""
    place = axes.transData.transform
    bottom = float("-inf")
    for at, mean, text, color in sorted(labels, key=lambda label: place((1.0, label[1]))[1]):
        wanted = float(place((at, mean))[1])
        height = max(wanted, bottom + 11.0)
        bottom = height
        axes.annotate(
            text, (at, mean), xytext=(7, (height - wanted) * 72 / axes.figure.dpi - 3), textcoords="offset points",
            color=color, fontsize=8,
        )  # fmt: skip
