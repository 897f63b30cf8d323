"""Tables of a run: what is measured per seed becomes mean ± spread per method, for the terminal, Markdown and HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from limbeck.metrics.results import Measure, ModelResult, RunResults
from limbeck.metrics.statistics import gap_closed, summarize
from limbeck.report.table import NOTHING, Cell, Column, Kind, Row, Table, format_number

__all__ = [
    "gaps",
    "has_measure",
    "leader",
    "main_measure",
    "measure_of_reference",
    "results_table",
    "seeds_table",
    "size_table",
]

# Keys of measures in which a student can be part of the way to its teacher.
_WITH_GAP = ("fid", "test_log_likelihood", "accuracy", "nll")


def main_measure(results: RunResults) -> Measure | None:
    """The measure in front: the first FID, else the first measure of quality."""
    quality = [measure for measure in results.measures if _is_shown_quality(measure)]
    return next((m for m in quality if m.key.startswith("fid")), quality[0] if quality else None)


def leader(results: RunResults, measure: Measure, methods: Sequence[str] | None = None) -> str | None:
    """The best student of a measure, if it leads by more than the spread.

    Its mean must differ from the next student's by more than the larger of their two spreads. With a single seed the
    spread is not known, and nobody leads.

    Args:
        results: the run.
        measure: what is compared.
        methods: the methods to compare; by default all but the teacher.

    Returns:
        The method, or ``None`` when the difference could be chance.
    """
    if measure.better == "neither":
        return None
    methods = results.students if methods is None else list(methods)
    found = {m: results.values(m, measure.key) for m in methods}
    summaries = sorted(
        ((summarize(values), m) for m, values in found.items() if values),
        key=lambda item: item[0].mean if measure.better == "lower" else -item[0].mean,
    )
    if len(summaries) < 2 or min(summaries[0][0].count, summaries[1][0].count) < 2:
        return None
    (first, name), (second, _) = summaries[:2]
    return name if abs(first.mean - second.mean) > max(first.spread, second.spread) else None


def measure_of_reference(label: str, measures: Sequence[Measure]) -> Measure | None:
    """The measure that the label of a reference value names, by the longest name; ``None`` if it names none."""
    named = [measure for measure in measures if measure.label in label or measure.key in label]
    return max(named, key=lambda measure: len(measure.label), default=None)


def gaps(results: RunResults) -> tuple[Measure, dict[str, list[float]]] | None:
    """How much of the way from scratch to the teacher each student goes, per seed: in the first measure that has a gap.

    That is an FID, a test likelihood or a test accuracy.

    The ends are the means over the seeds of the scratch model and of the teacher: with single seeds as ends, one seed
    whose two ends lie close would swamp the mean.

    Returns:
        The measure and the fractions of each method, or ``None`` where there is no gap to close: no such measure, no
        scratch model, a teacher that is not better than it, or one that was measured on other data.
    """
    measure = next((m for m in results.measures if m.key.startswith(_WITH_GAP)), None)
    if measure is None or results.teacher_elsewhere:
        return None
    teacher, scratch = results.values("teacher", measure.key), results.values("scratch", measure.key)
    if not teacher or not scratch or measure.better == "neither":
        return None
    top, floor = summarize(teacher).mean, summarize(scratch).mean
    if top == floor or (top < floor) != (measure.better == "lower"):
        return None
    students = [m for m in results.students if m != "scratch"]
    return measure, {m: [gap_closed(v, top, floor) for v in results.values(m, measure.key)] for m in students}


def results_table(runs: Sequence[RunResults]) -> Table:
    """The main table: quality of the teacher and of every method, mean ± spread over seeds, then reference values.

    Args:
        runs: one run, or several to be compared. Runs share a column where key and heading of a measure agree: FIDs by
            two feature extractors, or bounds of two numbers of samples, are different measures of one key.
    """
    measures = _measures(runs, _is_shown_quality)
    derived = [gaps(run) for run in runs]
    columns = [Column("Model"), *(_column(m) for m in measures)]
    closed = list({_identity(found[0]): found[0] for found in derived if found}.values())
    columns += [Column(f"Gap closed, {measure.label}", "↑") for measure in closed]
    rows: list[Row] = []
    references: list[list[Row]] = []
    emphasised = False
    for run, found in zip(runs, derived):
        leaders = [leader(run, m) if has_measure(run, m) else None for m in measures]
        for method in run.methods:
            cells = [_cell(run, method, m, first == method) for m, first in zip(measures, leaders)]
            for measure in closed:
                known = found is not None and _identity(found[0]) == _identity(measure)
                cells.append(_gap_cell(method, found[1] if found and known else {}, known))
            emphasised = emphasised or any(cell.best for cell in cells)
            rows.append(Row(method, cells, _kind(run, method), run.name))
        references.append(_references(run, measures, len(columns) - 1))
    caption = _spread_caption(runs)
    if emphasised:
        caption += " Bold: the best student, where it differs from the next one by more than the larger spread."
    elif any(len(run.students) > 1 for run in runs):
        caption += " No student is marked as best: none differs from the next one by more than the spread over seeds."
    if closed:
        caption += " Gap closed: 0 % is the mean of the model trained from scratch, 100 % that of the teacher."
    return Table(columns, rows + _joined(references), caption, len(runs) > 1)


def size_table(runs: Sequence[RunResults]) -> Table | None:
    """The second table: parameters, times and speeds. ``None`` when the runs hold none."""
    measures = _measures(runs, lambda m: m.kind == "cost")
    rows = []
    for run in runs:
        for method in run.methods:
            cells = [_cell(run, method, m, best=False) for m in measures]
            rows.append(Row(method, cells, _kind(run, method), run.name))
    if not measures or not rows:
        return None
    return Table([Column("Model"), *(_column(m) for m in measures)], rows, _spread_caption(runs), len(runs) > 1)


def seeds_table(results: RunResults) -> Table:
    """Every number as measured, one row for each model and seed, with its settings."""
    names = list(dict.fromkeys(name for result in results.results for name in result.settings))
    measures = _measures([results], lambda measure: True)
    columns = [Column("Model"), Column("Seed"), *(_column(m) for m in measures)]
    columns += [Column(name.replace("_", " ")) for name in names]
    rows = []
    for result in results.results:
        cells = [Cell(NOTHING if result.seed is None else str(result.seed))]
        cells += [_single(result, measure) for measure in measures]
        cells += [Cell(str(result.settings.get(name, NOTHING))) for name in names]
        rows.append(Row(result.method, cells, _kind(results, result.method)))
    return Table(columns, rows)


def _is_shown_quality(measure: Measure) -> bool:
    return measure.kind == "quality" and not measure.detail


def _measures(runs: Sequence[RunResults], wanted: Callable[[Measure], bool]) -> list[Measure]:
    """The union of the runs' measures, in order, without those that no model has."""
    union: dict[tuple[str, ...], Measure] = {}
    for run in runs:
        for measure in run.measures:
            if wanted(measure) and any(measure.key in result.values for result in run.results):
                union.setdefault(_identity(measure), measure)
    return list(union.values())


def _identity(measure: Measure) -> tuple[str, ...]:
    """What two runs must agree in for their numbers to stand in one column."""
    return measure.key, measure.label, measure.unit


def has_measure(run: RunResults, measure: Measure) -> bool:
    """Whether a run measures this: the same key under the same heading."""
    return any(_identity(own) == _identity(measure) for own in run.measures)


def _column(measure: Measure) -> Column:
    unit = f" ({measure.unit})" if measure.unit else ""
    return Column(measure.label + unit, {"lower": "↓", "higher": "↑", "neither": ""}[measure.better])


def _kind(results: RunResults, method: str) -> Kind:
    if method == "teacher" or method in results.variants:
        return "teacher"
    return "baseline" if method in results.without_teacher else "student"


def _cell(results: RunResults, method: str, measure: Measure, best: bool) -> Cell:
    values = results.values(method, measure.key) if has_measure(results, measure) else []
    models = sum(result.method == method for result in results.results)
    note = f"{len(values)} of {models} seeds" if 0 < len(values) < models else ""
    constant = measure.kind == "cost" or measure.better == "neither"
    return _summary_cell(values, lambda value: format_number(value, measure.digits), best, note, constant)


def _gap_cell(method: str, found: dict[str, list[float]], known: bool) -> Cell:
    if known and method in ("teacher", "scratch"):
        return Cell("100 %" if method == "teacher" else "0 %")
    return _summary_cell([100 * value for value in found.get(method, [])], lambda v: format_number(v, 0), unit=" %")


def _summary_cell(
    values: list[float],
    show: Callable[[float], str],
    best: bool = False,
    note: str = "",
    constant: bool = False,
    unit: str = "",
) -> Cell:
    if not values:
        return Cell(NOTHING)
    summary = summarize(values)
    # A number of parameters is the same for every seed; "± 0" beside it would only be noise.
    if summary.count < 2 or (constant and min(values) == max(values)):
        return Cell(show(summary.mean) + unit, best, note)
    return Cell(f"{show(summary.mean)} ± {show(summary.spread)}{unit}", best, note)


def _single(result: ModelResult, measure: Measure) -> Cell:
    value = result.values.get(measure.key)
    if value is None:
        return Cell(NOTHING)
    return Cell(format_number(value, measure.digits) if math.isfinite(value) else "not finite")


def _references(run: RunResults, measures: Sequence[Measure], width: int) -> list[Row]:
    """A reference stands under the measure of its own run that its label names, or under the main one."""
    rows = []
    own = [measure for measure in measures if has_measure(run, measure)]
    for label, value in run.references.items():
        target = measure_of_reference(label, own) or main_measure(run)
        cells = [Cell("")] * width
        column = next((i for i, m in enumerate(measures) if target and _identity(m) == _identity(target)), None)
        if target is not None and column is not None:
            cells[column] = Cell(format_number(value, target.digits))
        rows.append(Row(label, cells, "reference", run.name))
    return rows


def _joined(references: Sequence[list[Row]]) -> list[Row]:
    """The reference rows of all runs; one that all of them share is shown once, without the name of a run."""
    plain = [[replace(row, run="") for row in rows] for rows in references]
    shared = [row for row in plain[0] if all(row in rows for rows in plain)]
    own = [row for rows in references for row in rows if replace(row, run="") not in shared]
    return own + shared


def _spread_caption(runs: Sequence[RunResults]) -> str:
    counts = {sum(r.method == method for r in run.results) for run in runs for method in run.students}
    if not counts or max(counts) < 2:
        return "One seed each: how much the numbers vary between seeds is not known."
    seeds = f"{max(counts)} seeds" if len(counts) == 1 else f"{min(counts)} to {max(counts)} seeds"
    return f"Mean ± standard deviation over {seeds}; a lone number is a single model."
