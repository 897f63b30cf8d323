"""The report: one self-contained HTML file, without scripts and without anything fetched from elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.errors import DataError
from limbeck.files import atomic_write_text
from limbeck.metrics.results import Measure, RunResults
from limbeck.report.feature_figures import FeaturePanel, feature_panels
from limbeck.report.html import render
from limbeck.report.picture_groups import PictureGroup, picture_groups
from limbeck.report.run_tables import gaps, leader, main_measure, results_table, seeds_table, size_table
from limbeck.report.runs import Model, Run, read_run, told_apart
from limbeck.report.text import Highlight, highlights, labelled_notes, plain_list, what_was_run

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["render_report", "write_report"]

_SIZE = "parameters_generative"
_TRAINED = "train_seconds"


@dataclass(frozen=True)
class LossPanel:
    """The loss of one method: two figures and the legend they share (term, colour, share at the end)."""

    method: str
    seeds: int
    missing: str
    figures: list[Markup]
    legend: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Section:
    """What the page shows of one run."""

    run: Run
    label: str
    sentences: list[str]
    highlights: list[Highlight]
    grids: list[tuple[str, Model]]
    other_grids: list[tuple[str, Model]]
    groups: list[PictureGroup]
    chart: Markup | None
    steps: list[Markup]
    measure: Measure | None
    losses: list[LossPanel]
    features: list[FeaturePanel]
    seeds: Any
    images: bool


def write_report(run_directories: Sequence[str | Path], output: str | Path) -> Path:
    """Write one HTML page about one run, or one page that compares several.

    Args:
        run_directories: run directories, ``runs/<recipe>/<name>``.
        output: the HTML file to write; it replaces an older one only once it is complete.

    Returns:
        The path written.

    Raises:
        DataError: no directory is given, or one holds no readable ``metrics.json``.
        StorageError: the page cannot be written.
    """
    return atomic_write_text(output, render_report(run_directories))


def render_report(run_directories: Sequence[str | Path]) -> str:
    """The text of :func:`write_report`'s page. The same run directories give the same text.

    Args:
        run_directories: run directories, ``runs/<recipe>/<name>``.

    Raises:
        DataError: no directory is given, or one holds no readable ``metrics.json``.
    """
    from markupsafe import Markup

    if not run_directories:
        raise DataError("A report needs at least one run directory, e.g. `limbeck report runs/<recipe>/<name>`.")
    runs = [read_run(directory) for directory in run_directories]
    results = told_apart([run.results for run in runs])
    colors = _colors(results)
    several = len(runs) > 1
    sections = [_section(run, shown, colors, several) for run, shown in zip(runs, results)]
    said: set[str] = set()  # runs of one recipe share most sentences: say each once
    for section in sections:
        section.sentences[:] = [sentence for sentence in section.sentences if sentence not in said]
        said.update(section.sentences)
    measure = main_measure(results[0])
    size_figure = None
    if several and measure is not None:
        from limbeck.report.figures import size_figure as draw

        svg = draw(results, measure, colors, _SIZE)
        size_figure = Markup(svg) if svg else None
    used = list(dict.fromkeys(method for run in results for method in run.methods))
    return render(
        "page.html.jinja",
        title="Comparison of " + plain_list(run.name for run in results) if several else results[0].title,
        kicker=" · ".join(dict.fromkeys(run.recipe for run in results)),
        colors=colors,
        several=several,
        dry=[run.name for run in results if run.dry_run],
        table=results_table(results),
        sizes=size_table(results),
        sections=sections,
        size_figure=size_figure,
        notes=[(label if several else "", note) for label, note in labelled_notes(results)],
        measure=measure,
        method_legend=[(method, colors[method]) for method in used],
        run_markers=list(zip((run.name for run in results), "●■◆▲▼✚✖" * len(results))),
    )


def _colors(results: Sequence[RunResults]) -> dict[str, str]:
    from limbeck.report.svg import method_colors

    variants = {method: "muted" for run in results for method in run.variants}
    return method_colors([method for run in results for method in run.trained]) | variants


def _section(run: Run, results: RunResults, colors: dict[str, str], several: bool) -> Section:
    from markupsafe import Markup

    from limbeck.report.figures import measure_figure

    firsts = [(method, run.of(method)[0]) for method in results.methods]
    others = [(method, model) for method in results.methods for model in run.of(method)[1:]]
    pictures = any(model.picture for model in run.models)
    measure = main_measure(results)
    chart = measure_figure(results, measure, colors) if measure is not None else None
    lead = leader(results, measure) if measure is not None else None
    return Section(
        run=run,
        label=results.name,
        sentences=what_was_run(results),
        highlights=[] if results.dry_run else highlights(results, measure, lead, gaps(results)),
        grids=firsts if pictures else [],
        other_grids=[pair for pair in others if pair[1].picture] if pictures else [],
        groups=picture_groups(results.pictures, firsts),
        chart=Markup(chart) if chart else None,
        steps=_steps(results, measure, colors),
        measure=measure,
        losses=_losses(run, results, several),
        features=feature_panels(dataclasses.replace(run, results=results)),
        seeds=seeds_table(results),
        # Only models of images are drawn as grids from shared noise; others have figures of their own.
        images=any(found.key.startswith("fid") for found in results.measures),
    )


def _steps(results: RunResults, measure: Measure | None, colors: dict[str, str]) -> list[Markup]:
    """Quality and speed against the number of steps, where models of several numbers of steps were measured."""
    from markupsafe import Markup

    from limbeck.report.steps_figure import STEPS, steps_figure

    shown = {m.key: m for m in results.measures}
    if STEPS not in shown:
        return []
    drawn = [steps_figure(results, m, colors) for m in (measure, shown.get("samples_per_second")) if m is not None]
    return [Markup(svg) for svg in drawn if svg]


def _losses(run: Run, results: RunResults, several: bool) -> list[LossPanel]:
    """A panel for each method that was trained, students first: theirs are the losses of several terms.

    A teacher that is a formula or was given has no history, and misses none.
    """
    from markupsafe import Markup

    from limbeck.report.figures import fold_terms, loss_figure, share_figure, shares
    from limbeck.report.svg import term_colors

    histories = {m: [model.curves for model in run.of(m) if model.curves is not None] for m in results.trained}
    histories = {method: fold_terms(seeds) for method, seeds in histories.items()}
    colors = term_colors([curves for seeds in histories.values() for curves in seeds])
    panels = []
    for method in sorted(results.trained, key=lambda m: m == "teacher"):
        seeds, models = histories[method], run.of(method)
        if method == "teacher" and not seeds and not any(_TRAINED in model.result.values for model in models):
            continue
        missing = f"{len(models) - len(seeds)} of {len(models)} histories are not available."
        figures: list[str | None] = []
        legend: list[tuple[str, str, str]] = []
        if seeds:
            name, label = f"{results.name}-{method}", f"{method} in {results.name}" if several else method
            figures = [loss_figure(seeds, colors, name, label), share_figure(seeds, colors, name, label)]
            parts = shares(seeds)
            if len(parts) > 1:
                legend = [(term, colors[term], f"{100 * part:.0f} %") for term, part in parts.items()]
        drawn = [Markup(svg) for svg in figures if svg]
        panels.append(LossPanel(method, len(seeds), missing if len(seeds) < len(models) else "", drawn, legend))
    return panels if any(panel.figures for panel in panels) else []
