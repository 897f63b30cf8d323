"""Sentences about a run, and the few numbers that stand in front."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from limbeck.metrics.results import Measure, RunResults
from limbeck.metrics.statistics import summarize
from limbeck.report.table import format_number

__all__ = ["Highlight", "highlights", "labelled_notes", "plain_list", "what_was_run"]


@dataclass(frozen=True)
class Highlight:
    """A number in front: what it is, the number, and what it is measured against."""

    label: str
    value: str
    detail: str


def plain_list(words: Iterable[str]) -> str:
    """Join words as in a sentence.

    >>> plain_list(["a", "b", "c"])
    'a, b and c'
    """
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def what_was_run(results: RunResults) -> list[str]:
    """What was trained, in plain sentences, after the recipe's own description."""
    sentences = [results.description] if results.description.strip() else []
    students = results.students
    distilled = [method for method in students if method not in results.without_teacher]
    alone = [method for method in students if method in results.without_teacher]
    counts = {sum(r.method == method for r in results.results) for method in students}
    seeds = "" if not counts else f" with {min(counts)} seed{'s' if min(counts) > 1 else ''} each"
    if len(counts) > 1:
        seeds = f" with {min(counts)} to {max(counts)} seeds"
    if distilled:
        ways = f"{len(distilled)} ways: {plain_list(distilled)}" if len(distilled) > 1 else f"one way: {distilled[0]}"
        teacher = "One teacher" if "teacher" in results.methods else "A teacher"
        sentences.append(f"{teacher} was distilled in {ways},{seeds}.")
    if alone:
        also = "also " if distilled else ""
        sentences.append(f"Students were {also}trained without a teacher: {plain_list(alone)}.")
    return sentences


def labelled_notes(runs: Sequence[RunResults]) -> list[tuple[str, str]]:
    """The notes with the name of their run; a note that holds for every run is said once, without a name."""
    shared = [note for note in runs[0].notes if all(note in run.notes for run in runs)]
    return [("", note) for note in shared] + [(run.name, n) for run in runs for n in run.notes if n not in shared]


def highlights(
    results: RunResults, measure: Measure | None, lead: str | None, found: tuple[Measure, dict[str, list[float]]] | None
) -> list[Highlight]:
    """The few numbers that answer: how good is the best student, at which size and speed?

    Args:
        results: the run.
        measure: the main measure.
        lead: the student that leads by more than the spread; without one no student is singled out.
        found: what :func:`limbeck.report.run_tables.gaps` found.
    """
    students = [m for m in results.students if m not in results.without_teacher]
    shown = lead if lead is not None else students[0] if len(students) == 1 else None
    if measure is None or shown is None or not results.values(shown, measure.key):
        return []
    summary = summarize(results.values(shown, measure.key))
    value = format_number(summary.mean, measure.digits)
    if summary.count > 1:
        value += f" ± {format_number(summary.spread, measure.digits)}"
    others = [m for m in ("teacher", "scratch") if m != shown and results.values(m, measure.key)]
    against = ", ".join(f"{m} {_mean(results, m, measure)}" for m in others)
    boxes = [Highlight(f"{measure.label}, {shown}", value, against)]
    if found is not None and found[1].get(shown):
        gap = summarize(found[1][shown])
        detail = f"of the way from scratch to the teacher, in {found[0].label}"
        boxes.append(Highlight("Gap closed", f"{format_number(100 * gap.mean, 0)} %", detail))
    by_key = {m.key: m for m in results.measures}
    for key, label, smaller in (
        ("parameters_generative", "Smaller to generate with", True),
        ("samples_per_second", "Faster", False),
    ):
        teacher, student = results.values("teacher", key), results.values(shown, key)
        if key not in by_key or not teacher or not student:
            continue
        before, after = summarize(teacher).mean, summarize(student).mean
        if min(before, after) <= 0:
            continue
        ratio = before / after if smaller else after / before
        if ratio > 1:
            digits = 1 if ratio < 10 else 0
            arrow = f"{format_number(before, by_key[key].digits)} → {format_number(after, by_key[key].digits)}"
            unit = "parameters" if smaller else by_key[key].label  # images that are drawn, or that are classified
            boxes.append(Highlight(label, f"{format_number(ratio, digits)} ×", f"{arrow} {unit}"))
    return boxes


def _mean(results: RunResults, method: str, measure: Measure) -> str:
    return format_number(summarize(results.values(method, measure.key)).mean, measure.digits)
