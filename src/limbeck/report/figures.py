"""The figures of a report, as SVG text; see :mod:`limbeck.report.svg` for how they look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from limbeck.metrics.results import Measure, RunResults
from limbeck.metrics.statistics import summarize
from limbeck.report.curves import Curves, Series
from limbeck.report.run_tables import has_measure
from limbeck.report.svg import HEX, TERMS, log_ticks, new_axes, step_ticks, to_svg
from limbeck.report.table import format_number

__all__ = ["fold_terms", "loss_figure", "measure_figure", "share_figure", "shares", "size_figure"]

_MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def fold_terms(seeds: Sequence[Curves]) -> list[Curves]:
    """Keep the largest terms of a loss and add the others up: more lines than colours could not be distinguished."""
    names = _terms(seeds)
    if len(names) <= TERMS:
        return list(seeds)

    def size(name: str) -> float:
        return sum(float(np.nanmean(np.abs(one.terms[name]))) for one in seeds if name in one.terms)

    kept = set(sorted(names, key=size, reverse=True)[: TERMS - 1])
    folded = []
    for one in seeds:
        rest = [np.nan_to_num(values) for name, values in one.terms.items() if name not in kept]
        terms = {name: values for name, values in one.terms.items() if name in kept}
        if rest:
            terms[f"{len(names) - len(kept)} others"] = np.sum(rest, axis=0)
        folded.append(replace(one, terms=terms))
    return folded


def loss_figure(seeds: Sequence[Curves], colors: dict[str, str], name: str, label: str) -> str:
    """The loss (dark) and each of its weighted terms over the steps: thin lines are seeds, thick lines their mean.

    Args:
        seeds: one history per seed.
        colors: from :func:`term_colors`.
        name: makes the identifiers within the page unique.
        label: the method as the page calls it, for the text alternative.
    """
    figure, axes = new_axes(4.7, 2.7)
    steps = np.unique(np.concatenate([one.steps for one in seeds]))
    names = _terms(seeds)
    lines = [("total", "ink"), *((term, colors[term]) for term in names if len(names) > 1)]
    everything = []
    for order, (line, color) in enumerate(lines):
        rows = [one.total if line == "total" else one.terms.get(line) for one in seeds]
        found = [(one.steps, row) for one, row in zip(seeds, rows) if row is not None]
        everything += [row for _, row in found]
        if len(found) > 1:
            for at, row in found:
                axes.plot(*_finite(at, row), color=HEX[color], linewidth=0.6, alpha=0.4, zorder=2)
        at, mean = _finite(steps, _mean(steps, found))
        axes.plot(
            at, mean, color=HEX[color], linewidth=1.8 - 0.2 * (order > 0), zorder=3, marker=_dot(at), markersize=4
        )
    _loss_scale(axes, np.concatenate(everything))
    axes.set_xlabel("step")
    axes.set_ylabel("weighted loss")
    step_ticks(axes)
    what = ", ".join(names) if len(names) > 1 else "the loss"
    return to_svg(figure, f"loss-{name}", f"Loss curves of {label}: {what} over the training steps.")


def share_figure(seeds: Sequence[Curves], colors: dict[str, str], name: str, label: str) -> str | None:
    """Each term's share of the loss over the steps, stacked; ``None`` with fewer than two terms.

    The arguments are those of :func:`loss_figure`.
    """
    names = _terms(seeds)
    if len(names) < 2:
        return None
    steps = np.unique(np.concatenate([one.steps for one in seeds]))
    found = _shares(steps, seeds, names)
    known = np.isfinite(found).all(axis=0)
    if known.sum() < 2:
        return None
    figure, axes = new_axes(4.7, 2.7)
    axes.stackplot(
        steps[known],
        100 * found[:, known],
        colors=[HEX[colors[n]] for n in names],
        linewidth=0.4,
        edgecolor=HEX["ink"],
    )
    axes.set_ylim(0, 100)
    axes.set_xlim(steps[known][0], steps[known][-1])
    axes.set_xlabel("step")
    axes.set_ylabel("share of the loss, %")
    axes.grid(False)
    step_ticks(axes)
    return to_svg(figure, f"share-{name}", f"Share of each term in the loss of {label} over the training steps.")


def shares(seeds: Sequence[Curves]) -> dict[str, float]:
    """Each term's share of the loss over the last tenth of the steps: its size over the sum of all sizes."""
    names = _terms(seeds)
    steps = np.unique(np.concatenate([one.steps for one in seeds]))
    last = _shares(steps, seeds, names)[:, -max(1, len(steps) // 10) :] if names else np.zeros((0, 1))
    return {name: float(np.mean(row[np.isfinite(row)])) for name, row in zip(names, last) if np.isfinite(row).any()}


def measure_figure(results: RunResults, measure: Measure, colors: dict[str, str]) -> str | None:
    """One line per model: a dot for each seed, a bar at the mean, a line for its 95 % interval; references dashed."""
    methods = [m for m in results.trained if results.values(m, measure.key)]
    if not methods:
        return None
    figure, axes = new_axes(5.2, 0.85 + 0.34 * len(methods))
    everything, ends = [], []
    for row, method in enumerate(methods):
        values = results.values(method, measure.key)
        everything += values
        summary = summarize(values)
        color = HEX[colors[method]]
        if summary.count > 1:
            ends += [summary.low, summary.high]
            axes.plot([summary.low, summary.high], [row, row], color=color, linewidth=1.2, alpha=0.8, zorder=2)
            axes.plot([summary.mean] * 2, [row - 0.26, row + 0.26], color=color, linewidth=2.4, zorder=3)
        shifts = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(1)
        axes.plot(values, row + shifts, "o", color=color, markersize=5.5, alpha=0.75, markeredgewidth=0, zorder=4)
    _measure_scale(axes, everything, ends)
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelcolor=HEX["ink"])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    better = {"lower": ", lower is better", "higher": ", higher is better", "neither": ""}[measure.better]
    axes.set_xlabel(f"{measure.label}{f' ({measure.unit})' if measure.unit else ''}{better}")
    means = "; ".join(
        f"{m} {format_number(summarize(results.values(m, measure.key)).mean, measure.digits)}" for m in methods
    )
    return to_svg(figure, f"measure-{results.name}", f"{measure.label} of each model. Means: {means}.")


def size_figure(runs: Sequence[RunResults], measure: Measure, colors: dict[str, str], size: str) -> str | None:
    """A measure against the number of parameters, mean and spread of each method in each run; a marker for each run.

    Args:
        runs: the runs to compare.
        measure: on the vertical axis.
        colors: from :func:`method_colors`.
        size: key of the measure on the logarithmic horizontal axis.
    """
    figure, axes = new_axes(5.2, 3.3)
    by_method: dict[str, list[tuple[float, float]]] = {}
    for index, run in enumerate(runs):
        for method in run.methods if has_measure(run, measure) else ():
            values, sizes = run.values(method, measure.key), [s for s in run.values(method, size) if s > 0]
            if not values or not sizes:
                continue
            at, summary = summarize(sizes).mean, summarize(values)
            by_method.setdefault(method, []).append((at, summary.mean))
            color = HEX[colors[method]]
            spread = summary.spread if summary.count > 1 else 0.0
            marker = _MARKERS[index % len(_MARKERS)]
            axes.errorbar(
                at, summary.mean, spread, fmt=marker, color=color, markersize=6.5, elinewidth=1.2, capsize=2.5
            )
    if not by_method:
        return None
    for method, points in by_method.items():
        line = np.array(sorted(points))
        axes.plot(line[:, 0], line[:, 1], color=HEX[colors[method]], linewidth=1, alpha=0.6, zorder=1)
    every = [at for points in by_method.values() for at, _ in points]
    axes.set_xscale("log")
    axes.set_xlim(min(every) / 1.6, max(every) * 1.6)
    log_ticks(axes.xaxis)
    if all(mean > 0 for points in by_method.values() for _, mean in points):
        axes.set_ylim(bottom=0)
    axes.set_xlabel("parameters used to generate")
    axes.set_ylabel(f"{measure.label}{f' ({measure.unit})' if measure.unit else ''}")
    return to_svg(figure, "size", f"{measure.label} against the number of generative parameters of each model.")


def _terms(seeds: Sequence[Curves]) -> list[str]:
    return list(dict.fromkeys(name for one in seeds for name in one.terms))


def _shares(steps: Series, seeds: Sequence[Curves], names: Sequence[str]) -> Series:
    means = [_mean(steps, [(one.steps, one.terms[n]) for one in seeds if n in one.terms]) for n in names]
    sizes = np.abs(np.array(means))
    total = sizes.sum(axis=0)
    found: Series = np.divide(sizes, total, out=np.full_like(sizes, np.nan), where=total > 0)
    return found


def _mean(steps: Series, found: Sequence[tuple[Series, Series]]) -> Series:
    """Mean over seeds at common steps; seeds logged at other steps are interpolated, never beyond their ends."""
    rows = []
    for at, row in found:
        known = np.isfinite(row)
        if known.any():
            rows.append(np.interp(steps, at[known], row[known], left=np.nan, right=np.nan))
    if not rows:
        return np.full(len(steps), np.nan)
    table = np.array(rows)
    count = np.isfinite(table).sum(axis=0)
    mean: Series = np.where(count > 0, np.nansum(table, axis=0) / np.maximum(count, 1), np.nan)
    return mean


def _finite(steps: Series, values: Series) -> tuple[Series, Series]:
    known = np.isfinite(values)
    return steps[known], values[known]


def _dot(steps: Series) -> str | None:
    return "o" if len(steps) == 1 else None  # a line through one point cannot be seen


def _measure_scale(axes: Any, values: Sequence[float], ends: Sequence[float]) -> None:
    """Room for every seed and for the intervals; those of two or three seeds may be huge and run off the edge."""
    low, high = min(values), max(values)
    if low > 0 and high / low > 30:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.4, high * 1.4)
        log_ticks(axes.xaxis)
        return
    # Zero belongs on the axis unless all the differences would vanish beside it.
    from_zero = low >= 0 and high - low > 0.15 * high
    room = (high - low) or abs(high) or 1.0
    right = min(max([high, *ends]), high + 0.4 * room) + 0.06 * room
    left = max(min([low, *ends]), low - 0.4 * room) - 0.06 * room
    axes.set_xlim(0.0 if from_zero else left, right)


def _loss_scale(axes: Any, values: Series) -> None:
    """Logarithmic where the loss falls far and stays positive; else linear, the first spike cut off."""
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if len(values) == len(positive) and len(values) and values.max() / values.min() > 20:
        axes.set_yscale("log")
        log_ticks(axes.yaxis)
    elif len(values) > 20:
        low, high = np.percentile(values, [0, 98])
        margin = 0.06 * (high - low)
        if margin > 0 and values.max() > high + 5 * margin:
            axes.set_ylim(low - margin, high + margin)
