"""The report of a sweep: its table in the terminal, and one self-contained HTML page with table and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from limbeck.files import atomic_write_text
from limbeck.metrics.results import Measure
from limbeck.metrics.sweep_results import value_text
from limbeck.report.html import render
from limbeck.report.run_tables import main_measure
from limbeck.report.svg import method_colors
from limbeck.report.sweep_figures import SEEDS_FOR_AN_INTERVAL, axis_figures, size_figures
from limbeck.report.sweep_lines import (
    Panel,
    Sweep,
    axis_panels,
    is_constant,
    is_numeric,
    label_of,
    read_sweep,
    size_panels,
)
from limbeck.report.sweep_tables import fit_table, sweep_size_table, sweep_table
from limbeck.report.table import Table, to_rich
from limbeck.report.text import labelled_notes, plain_list

if TYPE_CHECKING:
    from markupsafe import Markup
    from rich.console import Console
    from rich.table import Table as RichTable

__all__ = ["print_sweep", "render_sweep_report", "write_sweep_report"]

_PANELS = 12  # beyond this a page of small pictures says less than the table


@dataclass(frozen=True)
class Group:
    """Pictures that belong together: one measure along one axis."""

    caption: str
    figures: list[Markup]
    left_out: int


@dataclass(frozen=True)
class Link:
    """A point, where its own page is, and why it failed if it did."""

    label: str
    page: str
    error: str


def write_sweep_report(directory: str | Path, output: str | Path) -> Path:
    """Write the page of a sweep.

    Args:
        directory: of the sweep, with its ``sweep.json``.
        output: the HTML file; links to the points' pages are relative to the sweep's directory.

    Returns:
        The path written.

    Raises:
        DataError: the directory holds no readable sweep.
        StorageError: the page cannot be written.
    """
    return atomic_write_text(output, render_sweep_report(directory))


def render_sweep_report(directory: str | Path) -> str:
    """The text of :func:`write_sweep_report`'s page. The same directory gives the same text.

    Raises:
        DataError: the directory holds no readable sweep.
    """
    sweep = read_sweep(directory)
    record, records = sweep.record, [found.results for found in sweep.finished]
    measure = main_measure(records[0]) if records else None
    colors = method_colors([method for results in records for method in results.methods])
    recipe = sweep.directory / "recipe.yaml"
    return render(
        "sweep.html.jinja",
        record=record,
        axes=[(axis.label, axis.keys, plain_list(map(value_text, axis.values))) for axis in record.axes],
        table=sweep_table(sweep),
        sizes=sweep_size_table(sweep),
        fits=fit_table(sweep, measure) if measure else None,
        groups=_groups(sweep, measure, colors) if measure else [],
        colors=colors,
        legend=list(colors.items()),
        notes=[*record.notes, *(note for label, note in labelled_notes(records) if not label)] if records else [],
        links=_links(sweep),
        recipe=recipe.read_text(encoding="utf-8", errors="replace") if recipe.is_file() else None,
    )


def print_sweep(directory: str | Path, console: Console) -> None:
    """Print the tables of the page."""
    sweep = read_sweep(directory)
    measure = main_measure(sweep.finished[0].results) if sweep.finished else None
    for table in (sweep_table(sweep), sweep_size_table(sweep), fit_table(sweep, measure) if measure else None):
        if table is not None:
            console.print(_fitting(table, console.width))
    for point in sweep.record.failed:
        label = label_of(sweep.record.axes, point.values)
        console.print(f"{label} failed: {point.error}", markup=False, highlight=False)


def _fitting(table: Table, width: int) -> RichTable:
    """The table in the given width: point and model in full, headings wrapped, last measures left to the page."""
    named = [row for row in table.rows if row.kind != "reference" or row.label == "failed"]
    widths = [max(len(text) for text in ("Run", *(row.run for row in named)))]
    widths += [max(len(text) for text in ("Model", *(row.label for row in named)))]
    for number, column in enumerate(table.columns[1:]):
        words = [*column.label.split(), *(row.cells[number].text for row in table.rows)]
        widths.append(max(len(word) for word in words) + 2 * bool(column.hint))
    count = len(widths)
    while count > 3 and sum(widths[:count]) + 3 * count + 1 > width:
        count -= 1
    rows = [replace(row, cells=row.cells[: count - 2]) for row in table.rows]
    caption = table.caption if count == len(widths) else f"{table.caption} The page has more columns."
    shown = to_rich(replace(table, columns=table.columns[: count - 1], rows=rows, caption=caption))
    shown.columns[0].no_wrap = True
    return shown


def _groups(sweep: Sweep, measure: Measure, colors: dict[str, str]) -> list[Group]:
    groups = []
    better = {"lower": ", lower is better", "higher": ", higher is better", "neither": ""}[measure.better]
    for number, axis in enumerate(sweep.record.axes):
        panels = axis_panels(sweep, number, measure.key) if is_numeric(axis) else []
        if _can_be_drawn(panels):
            shown = axis_figures(panels[:_PANELS], measure, colors, axis.label, f"axis{number}")
            groups.append(_group(f"{measure.label} against {axis.label}{better}.", shown, panels))
    panels = size_panels(sweep, measure.key)
    if _can_be_drawn(panels):
        shown = size_figures(panels[:_PANELS], measure, colors)
        groups.append(
            _group(f"{measure.label} against the number of parameters used to generate{better}.", shown, panels)
        )
    return groups


def _group(caption: str, figures: Sequence[str], panels: Sequence[Panel]) -> Group:
    from markupsafe import Markup

    most = max(len(values) for panel in panels for line in panel.lines for values in line.values)
    if most > 1:
        caption += " Lines join means over seeds; small dots are seeds."
    if most >= SEEDS_FOR_AN_INTERVAL:
        caption += " Upright lines are 95 % intervals of the mean."
    if any(is_constant(line) for panel in panels for line in panel.lines):
        caption += " Dashed: models that the axis does not change."
    return Group(caption, [Markup(svg) for svg in figures], len(panels) - len(figures))


def _can_be_drawn(panels: Sequence[Panel]) -> bool:
    return any(len(line.at) > 1 for panel in panels for line in panel.lines)


def _links(sweep: Sweep) -> list[Link]:
    axes = sweep.record.axes
    return [
        Link(label_of(axes, point.values), "" if point.error else quote(f"{point.name}/report.html"), point.error)
        for point in sweep.record.points
    ]
