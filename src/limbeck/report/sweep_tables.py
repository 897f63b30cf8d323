"""Tables of a sweep: every point and method; straight lines along the axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from limbeck.metrics.results import Measure, RunResults
from limbeck.report.run_tables import results_table, size_table
from limbeck.report.sweep_lines import (
    Panel,
    Sweep,
    axis_panels,
    is_constant,
    is_logarithmic,
    is_numeric,
    label_of,
    straight_line,
)
from limbeck.report.table import NOTHING, Cell, Column, Row, Table, format_number

__all__ = ["EVERYWHERE", "fit_table", "sweep_size_table", "sweep_table"]

EVERYWHERE = "every point"


def sweep_table(sweep: Sweep) -> Table:
    """Quality of every method, mean ± spread over seeds. Models that several points have in common stand once."""
    runs = _named(sweep)
    if not runs:
        return Table([Column("Model")], _arranged(sweep, _failed(sweep, 0)), "No point finished.", runs=True)
    table = results_table(runs)
    return replace(table, rows=_arranged(sweep, table.rows + _failed(sweep, len(table.columns) - 1)), runs=True)


def sweep_size_table(sweep: Sweep) -> Table | None:
    """Size and speed, in the same form."""
    runs = _named(sweep)
    table = size_table(runs) if runs else None
    return None if table is None else replace(table, rows=_arranged(sweep, table.rows), runs=True)


def fit_table(sweep: Sweep, measure: Measure) -> Table | None:
    """Straight lines of a measure along the numeric axes; ``None`` where no axis has three values.

    Along an axis that is shown on a logarithmic scale a straight line would be decided by its largest value alone.
    """
    rows = []
    for number, axis in enumerate(sweep.record.axes):
        if is_numeric(axis) and not is_logarithmic(axis.values):
            rows += _fits(axis_panels(sweep, number, measure.key), f"along {axis.label}")
    if not rows:
        return None
    columns = [Column(text) for text in ("Model", "slope", "intercept", "R²", "models")]
    caption = (
        f"Least squares: {measure.label} = intercept + slope × axis, over the models of every point and seed. "
        "R² is the share of their variance that the line explains. Models that an axis does not change are left out."
    )
    return Table(columns, rows, caption, runs=True)


def _fits(panels: Sequence[Panel], along: str) -> list[Row]:
    """A row for each method and panel; one for a method whose line is the same in all panels."""
    lines = [{line.method: line for line in panel.lines} for panel in panels]
    rows: dict[tuple[str, str], Row] = {}
    for panel, found in zip(panels, lines):
        for method, line in found.items():
            fit = straight_line(line)
            if fit is None or is_constant(line):
                continue
            same = all(other.get(method) == line for other in lines)
            place = f"{along}, {panel.title}" if panel.title and not same else along
            cells = [_number(fit.slope), _number(fit.intercept), format_number(fit.r2, 3), str(fit.count)]
            rows[place, method] = Row(method, [Cell(text) for text in cells], run=place)
    return sorted(rows.values(), key=lambda row: row.run != along)  # stable: panels keep their order


def _named(sweep: Sweep) -> list[RunResults]:
    return [replace(found.results, name=found.point.name) for found in sweep.finished]


def _arranged(sweep: Sweep, rows: list[Row]) -> list[Row]:
    """In the order of the grid; what an axis does not change stands once, under the values of the other axes.

    Args:
        sweep: the sweep.
        rows: with the names of their points for their runs; those that come back have labels.
    """
    axes = sweep.record.axes
    places = {point.name: index for index, point in enumerate(sweep.record.points)}
    models = {one.point.name: one.results for one in sweep.finished}
    values = {point.name: point.values for point in sweep.record.points}
    labels = {point.name: label_of(axes, point.values) for point in sweep.record.points}
    matter = {
        method: _matter(sweep, {name: _models(record, method) for name, record in models.items()})
        for method in {method for record in models.values() for method in record.methods}
    }
    references: dict[str, dict[str, object]] = {}
    for row in rows:
        if row.kind == "reference":
            references.setdefault(row.label, {})[row.run] = row.cells
    kept: dict[tuple[str, str], tuple[tuple[int, int], Row, object]] = {}
    for row in rows:
        if row.kind == "reference":
            label = labels.get(row.run, "")  # none where all points share the reference
            if row.run in models:
                numbers = _matter(sweep, references[row.label])
                label = label_of([axes[n] for n in numbers], [values[row.run][n] for n in numbers])
            order = (places.get(row.run, len(places)), 0)
            kept.setdefault((label, row.label), (order, replace(row, run=label), None))
            continue
        numbers = matter[row.label]
        own = _models(models[row.run], row.label)
        label = label_of([axes[n] for n in numbers], [values[row.run][n] for n in numbers]) or EVERYWHERE
        order = (places[row.run] if numbers else -1, len(numbers))
        known = kept.get((label, row.label))
        if known is None:
            kept[label, row.label] = (order, replace(row, run=label), own)
        elif known[2] == own:
            cells = [replace(a, best=a.best and b.best) for a, b in zip(known[1].cells, row.cells)]
            kept[label, row.label] = (known[0], replace(known[1], cells=cells), own)
        else:
            label = labels[row.run]
            kept[label, row.label] = ((places[row.run], len(axes)), replace(row, run=label), own)
    return [row for _, row, _ in sorted(kept.values(), key=lambda item: item[0])]


def _matter(sweep: Sweep, found: Mapping[str, object]) -> list[int]:
    """The axes that change what was found at the points, by their names.

    Exactly the same numbers, times included, are the same models.
    """
    changing = []
    for number in range(len(sweep.record.axes)):
        groups: dict[str, list[object]] = {}
        for one in sweep.finished:
            rest = repr([value for index, value in enumerate(one.point.values) if index != number])
            groups.setdefault(rest, []).append(found.get(one.point.name))
        compared = [group for group in groups.values() if len(group) > 1]
        if not compared or any(model != group[0] for group in compared for model in group):
            changing.append(number)
    return changing


def _models(results: RunResults, method: str) -> list[tuple[int | None, dict[str, float]]]:
    return [(one.seed, one.values) for one in results.results if one.method == method]


def _failed(sweep: Sweep, width: int) -> list[Row]:
    return [Row("failed", [Cell(NOTHING)] * width, "reference", point.name) for point in sweep.record.failed]


def _number(value: float) -> str:
    return f"{value + 0.0:.4g}".replace("-", "−")  # the sum has no "-0"
