"""What learned divergences have found out about hidden features: information over the steps, variances of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from limbeck.report.curves import Curves, Series
from limbeck.report.runs import Run
from limbeck.report.svg import HEX, TERMS, log_ticks, new_axes, step_ticks, to_svg

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["FeaturePanel", "feature_panels", "information_figure", "variance_figure"]

_INFORMATION = "information/"


@dataclass(frozen=True)
class FeaturePanel:
    """What one method has learned of hidden features: figures, and the legend they share (site, colour)."""

    method: str
    figures: list[Markup]
    legend: list[tuple[str, str]]


def feature_panels(run: Run) -> list[FeaturePanel]:
    """A panel for each method whose divergences have learned observation models.

    Args:
        run: whatever was trained in it.
    """
    from markupsafe import Markup

    panels = []
    for method in run.results.trained:
        models = run.of(method)
        curves = [_information(model.curves) for model in models if model.curves is not None]
        curves = [one for one in curves if one.observed]
        variances = [model.variances for model in models if model.variances]
        sites = list(dict.fromkeys(site for one in (*(c.observed for c in curves), *variances) for site in one))
        colors = {site: f"t{min(index, TERMS - 1)}" for index, site in enumerate(sites)}
        name = f"{run.results.name}-{method}"
        drawn = [
            information_figure(curves, colors, name) if curves else None,
            variance_figure(variances, colors, name) if variances else None,
        ]
        if figures := [Markup(svg) for svg in drawn if svg]:
            panels.append(FeaturePanel(method, figures, list(colors.items())))
    return panels


def information_figure(seeds: Sequence[Curves], colors: dict[str, str], name: str) -> str:
    """The information of a student's features about each of the teacher's, over the steps; one line per seed.

    Args:
        seeds: one history per seed, ``observed`` by site.
        colors: site to the name of its colour.
        name: of the method, for the text alternative; also makes the identifiers within the page unique.
    """
    figure, axes = new_axes(4.7, 2.7)
    everything = []
    for one in seeds:
        for site, values in one.observed.items():
            known = np.isfinite(values)
            marker = "o" if known.sum() == 1 else None  # a line through one point cannot be seen
            axes.plot(
                one.steps[known], values[known], color=HEX[colors[site]], linewidth=1.4, alpha=0.85, marker=marker
            )
            everything.append(values[known])
    _without_the_start(axes, np.concatenate(everything))
    axes.axhline(0.0, color=HEX["muted"], linewidth=0.8)
    axes.set_xlabel("step")
    axes.set_ylabel("information, nats per row")
    step_ticks(axes)
    lasts = ", ".join(
        f"{site} {_last(seeds, site):.3g}" for site in colors if any(site in one.observed for one in seeds)
    )
    said = f"Information that {name} has of the teacher's features: {lasts} nats."
    return to_svg(figure, f"information-{name}", said)


def variance_figure(seeds: Sequence[dict[str, Series]], colors: dict[str, str], name: str) -> str:
    """The learned variance of each channel, largest first, of every layer ([V] Fig. 3); one line per seed.

    Args:
        seeds: site to variances, one mapping per seed.
        colors: as for :func:`information_figure`.
        name: as for :func:`information_figure`.
    """
    figure, axes = new_axes(4.7, 2.7)
    for one in seeds:
        for site, values in one.items():
            # Layers have different numbers of channels: each from its first to its last.
            at = np.linspace(0.0, 100.0, len(values)) if len(values) > 1 else np.array([50.0])
            marker = "o" if len(values) == 1 else None
            axes.plot(at, np.sort(values)[::-1], color=HEX[colors[site]], linewidth=1.4, alpha=0.85, marker=marker)
    axes.set_yscale("log")
    log_ticks(axes.yaxis)
    axes.set_xlim(0.0, 100.0)
    axes.set_xlabel("channels, largest variance first, %")
    axes.set_ylabel("learned variance")
    ranges = ", ".join(f"{site} {values.min():.3g} to {values.max():.3g}" for site, values in seeds[0].items())
    return to_svg(figure, f"variances-{name}", f"Learned variances of the channels of {name}: {ranges}.")


def _information(curves: Curves) -> Curves:
    """Only what is information, by site."""
    found = {
        name.removeprefix(_INFORMATION): values
        for name, values in curves.observed.items()
        if name.startswith(_INFORMATION)
    }
    return Curves(curves.steps, curves.total, curves.terms, found)


def _last(seeds: Sequence[Curves], site: str) -> float:
    """Mean over seeds of the last number of a site."""
    return float(
        np.mean([one.observed[site][np.isfinite(one.observed[site])][-1] for one in seeds if site in one.observed])
    )


def _without_the_start(axes: object, values: Series) -> None:
    """Before anything is learned the estimate is far below zero: a curve may come in from the edge."""
    low, high = np.percentile(values, [10, 100])
    if values.min() < low - (high - low):
        axes.set_ylim(low - 0.3 * (high - low), high + 0.06 * (high - low))  # type: ignore[attr-defined]
