"""Tables of a sweep: every point and method; straight lines along the axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from limbeck.metrics.results import Measure, RunResults
from limbeck.report.sweep_lines import Panel, Sweep, axis_panels, is_logarithmic, is_numeric, label_of, straight_line
from limbeck.report.table import NOTHING, Cell, Column, Row, Table
from limbeck.report.tables import results_table, size_table

__all__ = ["EVERYWHERE", "fit_table", "sweep_size_table", "sweep_table"]

EVERYWHERE = "every point"


def sweep_table(sweep: Sweep) -> Table:
    """Quality of every method at every point, mean ± spread over seeds; what all points share stands once, in front."""
    runs = _named(sweep)
    if not runs:
        return Table([Column("Model")], _failed(sweep, 0), "No point finished.", runs=True)
    table = results_table(runs)
    rows = _shared_once(sweep, table.rows) + _failed(sweep, len(table.columns) - 1)
    order = {label_of(sweep.record.axes, point.values): index for index, point in enumerate(sweep.record.points)}
    order |= {EVERYWHERE: -1, "": len(order)}
    rows.sort(key=lambda row: order[row.run])
    return replace(table, rows=rows, runs=True)


def sweep_size_table(sweep: Sweep) -> Table | None:
    """Size and speed, in the same form."""
    runs = _named(sweep)
    table = size_table(runs) if runs else None
    if table is None:
        return None
    rows = _shared_once(sweep, table.rows)
    return replace(table, rows=sorted(rows, key=lambda row: row.run != EVERYWHERE), runs=True)


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
            if fit is None or all(values == line.values[0] for values in line.values):
                continue  # too few places, or the same models at all of them
            same = all(other.get(method) == line for other in lines)
            place = f"{along}, {panel.title}" if panel.title and not same else along
            cells = [_number(fit.slope), _number(fit.intercept), f"{fit.r2:.3f}", str(fit.count)]
            rows[place, method] = Row(method, [Cell(text) for text in cells], run=place)
    return sorted(rows.values(), key=lambda row: row.run != along)  # stable: panels keep their order


def _named(sweep: Sweep) -> list[RunResults]:
    axes = sweep.record.axes
    return [replace(found.results, name=label_of(axes, found.point.values)) for found in sweep.finished]


def _shared_once(sweep: Sweep, rows: list[Row]) -> list[Row]:
    """Rows of models that all points have in common only once: exactly the same numbers, times included."""
    records = [found.results for found in sweep.finished]
    if len(records) < 2:
        return rows
    shared = set()
    for method in records[0].methods:
        models = [[(r.seed, r.values) for r in record.results if r.method == method] for record in records]
        if all(one == models[0] for one in models):
            shared.add(method)
    once: dict[str, Row] = {}
    kept = []
    for row in rows:
        if row.kind == "reference" or row.label not in shared:
            kept.append(row)
            continue
        known = once.setdefault(row.label, replace(row, run=EVERYWHERE))
        cells = [replace(a, best=a.best and b.best) for a, b in zip(known.cells, row.cells)]
        once[row.label] = replace(known, cells=cells)
    return [*once.values(), *kept]


def _failed(sweep: Sweep, width: int) -> list[Row]:
    axes = sweep.record.axes
    return [
        Row("failed", [Cell(NOTHING)] * width, "reference", label_of(axes, point.values))
        for point in sweep.record.failed
    ]


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")
