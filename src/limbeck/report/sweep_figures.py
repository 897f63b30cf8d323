"""The figures of a sweep: a measure along an axis, and against the size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from limbeck.metrics.results import Measure
from limbeck.metrics.statistics import summarize
from limbeck.report.svg import HEX, log_ticks, new_axes, short, to_svg
from limbeck.report.sweep_lines import Line, Panel, is_constant, is_logarithmic
from limbeck.report.table import format_number

__all__ = ["SEEDS_FOR_AN_INTERVAL", "axis_figures", "size_figures"]

_TICKS = 7
SEEDS_FOR_AN_INTERVAL = 3  # that of two is 13 times their standard error: it would cross the whole picture


def axis_figures(panels: Sequence[Panel], measure: Measure, colors: dict[str, str], label: str, name: str) -> list[str]:
    """One picture per panel, with common scales: a line per method, dots for seeds, bars for 95 % intervals.

    Args:
        panels: from :func:`limbeck.report.sweep_lines.axis_panels`.
        measure: on the vertical axis.
        colors: name of a colour for each method.
        label: of the horizontal axis.
        name: makes the identifiers within the page unique.
    """
    places = sorted({at for panel in panels for line in panel.lines for at in line.at})
    return [_figure(panels, index, measure, colors, label, name, places, size=False) for index in range(len(panels))]


def size_figures(panels: Sequence[Panel], measure: Measure, colors: dict[str, str]) -> list[str]:
    """The same against the number of generative parameters, on a logarithmic axis."""
    places = sorted({at for panel in panels for line in panel.lines for at in line.at})
    label = "parameters used to generate"
    return [_figure(panels, i, measure, colors, label, "size", places, size=True) for i in range(len(panels))]


def _figure(
    panels: Sequence[Panel], index: int, measure: Measure, colors: dict[str, str], label: str, name: str,
    places: Sequence[float], *, size: bool,
) -> str:  # fmt: skip
    panel = panels[index]
    figure, axes = new_axes(*((5.2, 3.3) if len(panels) == 1 else (4.2, 2.9)))
    for order, line in enumerate(panel.lines):
        _draw(axes, line, HEX[colors[line.method]], order)
    if size:
        _size_scale(axes, places)
    else:
        _axis_scale(axes, places)
    _measure_scale(axes, panels)
    axes.set_xlabel(label)
    axes.set_ylabel(f"{measure.label}{f' ({measure.unit})' if measure.unit else ''}")
    if panel.title:
        axes.set_title(panel.title, fontsize=9.5, color=HEX["ink"], loc="left")
    where = f", {panel.title}" if panel.title else ""
    return to_svg(figure, f"{name}-{index}", f"{measure.label} against {label}{where}: {_said(panel, measure)}.")


def _draw(axes: Any, line: Line, color: str, order: int) -> None:
    means = [summarize(values) for values in line.values]
    if is_constant(line):
        axes.plot(line.at, [one.mean for one in means], color=color, linewidth=1.4, linestyle=(0, (4, 2.5)), zorder=3)
        return
    axes.plot(line.at, [one.mean for one in means], color=color, linewidth=1.6, marker="o", markersize=5,
              markeredgewidth=0, zorder=4 + 0.01 * order)  # fmt: skip
    for at, values, one in zip(line.at, line.values, means):
        if one.count >= SEEDS_FOR_AN_INTERVAL:
            axes.plot([at, at], [one.low, one.high], color=color, linewidth=1.1, alpha=0.7, zorder=3)
        if one.count > 1:
            axes.plot([at] * one.count, values, "o", color=color, markersize=3, alpha=0.5, markeredgewidth=0, zorder=3)


def _axis_scale(axes: Any, places: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    last = len(places) - 1
    shown = [places[index] for index in np.unique(np.linspace(0, last, _TICKS).round().astype(int))]
    if is_logarithmic(places):
        positive = [at for at in places if at > 0]
        if min(places) > 0:
            axes.set_xscale("log")
        else:
            # Linear from zero to the smallest value, logarithmic beyond: zero has a place, one decade to the left.
            axes.set_xscale("symlog", linthresh=min(positive), linscale=1.0)
            axes.set_xlim(left=-0.25 * min(positive))
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def _size_scale(axes: Any, places: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(min(places) / 1.4, max(places) * 1.4)
    log_ticks(axes.xaxis)


def _measure_scale(axes: Any, panels: Sequence[Panel]) -> None:
    """One scale for all panels, with room for every seed; long intervals of few seeds may run off the edge."""
    values = [value for panel in panels for line in panel.lines for seeds in line.values for value in seeds]
    low, high = min(values), max(values)
    if low > 0 and high / low > 30:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.4, high * 1.4)
        log_ticks(axes.yaxis)
        return
    room = (high - low) or abs(high) or 1.0
    from_zero = low >= 0 and high - low > 0.15 * high
    axes.set_ylim(0.0 if from_zero else low - 0.12 * room, high + 0.12 * room)


def _said(panel: Panel, measure: Measure) -> str:
    parts = []
    for line in panel.lines:
        means = (
            f"{_said_number(summarize(values).mean, measure)} at {short(at)}"
            for at, values in zip(line.at, line.values)
        )
        parts.append(f"{line.method} {', '.join(means)}")
    return "; ".join(parts)


def _said_number(value: float, measure: Measure) -> str:
    """Four digits, unless the tables would show zero: a divergence of a model from itself is a rounding error."""
    shown = format_number(value, measure.digits)
    return "0" if float(shown.replace(",", "").replace("−", "-")) == 0 else f"{value:.4g}"
