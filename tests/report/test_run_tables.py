from __future__ import annotations

import dataclasses
import io
import math

import pytest
from rich.console import Console

from limbeck.metrics.results import Measure
from limbeck.report import results_table, seeds_table, size_table, to_markdown, to_rich
from limbeck.report.run_tables import gaps, leader, main_measure
from limbeck.report.table import Cell, Column, Row, Table, format_number
from limbeck.report.text import what_was_run

from .conftest import FID, MEASURES, results


def cells(table, label, run=None):
    return next([c.text for c in r.cells] for r in table.rows if r.label == label and run in (None, r.run))


def test_numbers_by_hand():
    table = results_table([results()])
    assert [c.label for c in table.columns] == ["Model", "FID to data", "ELBO (nats)", "Gap closed, FID to data"]
    assert cells(table, "teacher") == ["8.0", "−8.00", "100 %"]
    # surrogate 10, 12, 11: standard deviation 1; gaps (20 - x) / 12 = 10/12, 8/12, 9/12
    assert cells(table, "surrogate") == ["11.0 ± 1.0", "−11.00 ± 1.00", "75 ± 8 %"]
    assert cells(table, "scratch") == ["20.0 ± 2.0", "−20.00 ± 2.00", "0 %"]
    assert cells(table, "real vs real") == ["4.1", "", ""]
    assert "3 seeds" in table.caption


def test_best_is_marked_only_beyond_the_spread():
    table = results_table([results()])
    assert [(r.label, [c.best for c in r.cells]) for r in table.rows if any(c.best for c in r.cells)] == [
        ("surrogate", [True, True, False])
    ]
    assert leader(results(), MEASURES[0]) == "surrogate"
    assert leader(results(), MEASURES[1]) == "surrogate"
    close = results({**FID, "local": [9.0, 12.0, 14.0]})  # 11.67 ± 2.5 against 11 ± 1
    assert leader(close, MEASURES[0]) is None
    shown = results_table([close])
    assert not any(c.best for r in shown.rows for c in r.cells)
    assert "No student is marked" in shown.caption


def test_one_seed_shows_no_spread_and_no_best():
    single = results({"teacher": [8.0], "surrogate": [10.0], "scratch": [20.0]})
    table = results_table([single])
    assert cells(table, "surrogate") == ["10.0", "−10.00", "83 %"]
    assert leader(single, MEASURES[0]) is None
    assert "One seed" in table.caption


def test_neither_direction_has_no_best():
    assert leader(results(), Measure("fid_data", "x", "neither")) is None


def test_failed_seeds_are_counted():
    table = results_table([results({**FID, "local": [14.0, math.nan, math.inf]})])
    cell = next(r for r in table.rows if r.label == "local").cells[0]
    assert (cell.text, cell.note) == ("14.0", "1 of 3 seeds")
    table = results_table([results({**FID, "local": [math.nan]})])
    assert cells(table, "local") == ["–", "–", "–"]
    everything = seeds_table(results({**FID, "local": [math.nan]}))
    assert cells(everything, "local")[:2] == ["0", "not finite"]


@pytest.mark.parametrize(
    "fid",
    [
        {"teacher": [8.0], "local": [9.0]},
        {"local": [9.0], "scratch": [10.0]},
        {"teacher": [20.0], "local": [9.0], "scratch": [10.0]},
        {"teacher": [10.0], "local": [9.0], "scratch": [10.0]},
    ],
    ids=["no scratch", "no teacher", "teacher worse", "no gap"],
)
def test_no_gap_where_there_is_none(fid):
    assert gaps(results(fid)) is None
    assert not any("Gap" in c.label for c in results_table([results(fid)]).columns)


@pytest.mark.parametrize("key", ["accuracy", "nll"])
def test_gap_of_classifiers_is_told_in_their_first_measure(key):
    """(method - scratch) / (teacher - scratch): accuracies 60, 75 and 90 are the middle of the way."""
    sign, other = (1.0, "nll") if key == "accuracy" else (-1.0, "accuracy")
    better = {"accuracy": "higher", "nll": "lower"}
    values = {"teacher": [90.0], "surrogate": [75.0, 81.0], "scratch": [58.0, 62.0]}
    measured = results({method: [sign * value for value in found] for method, found in values.items()})
    models = [dataclasses.replace(m, values={key: m.values["fid_data"], other: 1.0}) for m in measured.results]
    measures = [Measure(key, f"test {key}", better[key], 1), Measure(other, other, better[other], 1)]
    run = dataclasses.replace(measured, results=models, measures=measures)
    measure, found = gaps(run)
    assert measure.key == key
    assert found == {"surrogate": pytest.approx([0.5, 0.7])}
    assert cells(results_table([run]), "surrogate")[-1] == "60 ± 14 %"
    # A teacher that learned something else is not the end of this way.
    elsewhere = dataclasses.replace(run, teacher_elsewhere=True)
    assert gaps(elsewhere) is None


def test_size_table_leaves_out_spread_of_constants():
    table = size_table([results()])
    assert cells(table, "surrogate") == ["1,000", "501 ± 1"]
    assert size_table([results(measures=MEASURES[:2])]) is None


def test_several_runs_are_joined_by_measure():
    second = results(name="second", measures=[*MEASURES[:2], Measure("accuracy", "Accuracy", "higher")])
    table = results_table([results(), second])
    assert table.runs
    assert cells(table, "surrogate", "second") == ["11.0 ± 1.0", "−11.00 ± 1.00", "75 ± 8 %"]
    assert [c.label for c in table.columns][1:3] == ["FID to data", "ELBO (nats)"]
    assert [r.run for r in table.rows if r.label == "real vs real"] == [""]  # the same for both: shown once
    other = dataclasses.replace(second, references={"real vs real": 5.0})
    rows = [r for r in results_table([results(), other]).rows if r.label == "real vs real"]
    assert [(r.run, r.cells[0].text) for r in rows] == [("first", "4.1"), ("second", "5.0")]


def test_measures_of_one_key_and_other_headings_stand_apart():
    """FIDs by two extractors, and bounds of two numbers of samples: each number under its own heading."""
    flat = Measure("fid_data", "FID (flat)", "lower", 1)
    labels = {"FID to data of real images": 4.1}, {"FID (flat) of real images": 0.5}
    first = results(references=labels[0])
    second = results(
        {"teacher": [1.0], "surrogate": [2.0], "scratch": [3.0]}, name="second", measures=[flat], references=labels[1]
    )
    for runs in ([first, second], [second, first]):
        table = results_table(runs)
        headings = [c.label for c in table.columns][1:]
        shown = {
            run: dict(zip(headings, cells(table, "surrogate", run), strict=True)) for run in ("first", "second")
        }  # fmt: skip
        assert shown["second"] == {
            "FID to data": "–", "ELBO (nats)": "–", "FID (flat)": "2.0",
            "Gap closed, FID to data": "–", "Gap closed, FID (flat)": "50 %",
        }  # fmt: skip
        assert (shown["first"]["FID (flat)"], shown["first"]["Gap closed, FID (flat)"]) == ("–", "–")
        assert shown["first"]["Gap closed, FID to data"] == "75 ± 8 %"
        for label, heading in zip(("FID to data", "FID (flat)"), ("FID to data", "FID (flat)")):
            row = dict(zip(headings, cells(table, f"{label} of real images"), strict=True))
            assert [name for name, text in row.items() if text] == [heading]


def test_names_are_whole_however_narrow_the_terminal():
    long = {f"a-method-of-a-long-name-{number}": values for number, values in enumerate(FID.values())}
    runs = [results(long, name=f"recipe/{name}") for name in ("first", "second")]
    console = Console(file=io.StringIO(), width=60)
    console.print(to_rich(results_table(runs)))
    text = console.file.getvalue()
    assert "a-method-of-a-long-name-3" in text
    assert "recipe/second" in text
    assert text.count("├") == 2  # between the runs, and above the reference that they share


def test_main_measure_is_the_first_fid():
    assert main_measure(results(measures=[MEASURES[2], MEASURES[1], MEASURES[0]])).key == "fid_data"
    assert main_measure(results(measures=MEASURES[1:])).key == "elbo"
    assert main_measure(results(measures=MEASURES[2:])) is None


def test_reference_stands_under_the_measure_it_names():
    table = results_table([results(references={"ELBO of the data": -5.0})])
    assert cells(table, "ELBO of the data") == ["", "−5.00", ""]
    longer = Measure("other", "smoothed ELBO", "higher", 3)  # names hold other names: the longest is meant
    models = [dataclasses.replace(r, values={**r.values, "other": 0.0}) for r in results().results]
    run = results(measures=[*MEASURES, longer], results=models, references={"smoothed ELBO of the data": -5.0})
    assert cells(results_table([run]), "smoothed ELBO of the data") == ["", "", "−5.000", ""]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1234567.0, 0, "1,234,567"), (-0.04, 1, "0.0"), (-1.25, 2, "−1.25"), (math.nan, 1, "–"), (math.inf, 1, "–")],
)
def test_format_number(value, digits, text):
    assert format_number(value, digits) == text


def test_renderers_escape_and_emphasise():
    rows = [Row("a|b_[red]", [Cell("1.0 ± 0.1", best=True), Cell("2", note="1 of 2 seeds")])]
    table = Table([Column("Model"), Column("FID", "↓"), Column("x\ny")], rows, "Caption.")
    markdown = to_markdown(table)
    assert markdown.splitlines()[0] == "| Model | FID ↓ | x y |"
    assert markdown.splitlines()[2] == "| a\\|b\\_\\[red] | **1.0 ± 0.1** | 2 (1 of 2 seeds) |"
    console = Console(file=io.StringIO(), width=120)
    console.print(to_rich(table))
    text = console.file.getvalue()
    assert "a|b_[red]" in text
    assert "2 (1 of 2 seeds)" in text


def test_measures_that_no_model_has_are_left_out():
    absent = [Measure("kid", "KID", "lower", 3), Measure("memory", "Memory", "lower", 0, "MiB", kind="cost")]
    run = results(measures=[*MEASURES, *absent])
    for table in (results_table([run]), size_table([run]), seeds_table(run)):
        labels = [column.label for column in table.columns]
        assert not {"KID", "Memory (MiB)"} & set(labels)
        assert all(len(row.cells) == len(labels) - 1 for row in table.rows)
    shown = [column.label for column in seeds_table(run).columns]
    assert shown == ["Model", "Seed", "FID to data", "ELBO (nats)", "Parameters", "Speed", "learning rate"]


def test_no_models_is_an_empty_table():
    empty = results({})
    assert [r.label for r in results_table([empty]).rows] == ["real vs real"]
    assert size_table([empty]) is None


def test_every_method_without_a_teacher_is_a_baseline():
    run = results({**FID, "dropout": [9.0, 9.5, 9.2]}, without_teacher=["scratch", "dropout"])
    kinds = {row.label: row.kind for row in results_table([run]).rows}
    assert kinds["dropout"] == kinds["scratch"] == "baseline"
    assert kinds["surrogate"] == "student"
    said = what_was_run(run)
    assert "surrogate and local" in said[1]
    assert "dropout" not in said[1]
    assert said[2] == "Students were also trained without a teacher: scratch and dropout."
