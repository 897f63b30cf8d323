"""Quality against steps: in the report, and what variants of the teacher are kept out of."""

from __future__ import annotations

import dataclasses

from limbeck.metrics.results import Measure, ModelResult, RunResults
from limbeck.report.page import render_report
from limbeck.report.run_tables import leader, results_table
from limbeck.report.steps_figure import STEPS, steps_figure
from limbeck.report.text import what_was_run
from tests.report.conftest import MEASURES, results

ROWS = {"teacher": 100, "teacher, 2 steps": 2, "teacher, 10 steps": 10, "student": 1, "two-step": 2}
FID = {"teacher": [4.0], "teacher, 2 steps": [400.0], "teacher, 10 steps": [6.0], "student": [11.0, 12.0, 13.0],
       "two-step": [8.0, 8.5, 9.0]}  # fmt: skip


def record() -> RunResults:
    models = [
        dataclasses.replace(model, values={**model.values, STEPS: float(ROWS[model.method])})
        for model in results(FID).results
    ]
    measures = [Measure(STEPS, "steps", "neither", 0), *MEASURES]
    return results(FID, results=models, measures=measures, variants=["teacher, 2 steps", "teacher, 10 steps"])


def test_variants_compete_with_no_student() -> None:
    run = record()
    assert run.students == ["student", "two-step"]
    assert leader(run, run.measures[1]) == "two-step"  # and not the teacher with 10 steps
    kinds = {row.label: row.kind for row in results_table([run]).rows}
    assert kinds["teacher, 10 steps"] == kinds["teacher"] == "teacher"
    assert kinds["student"] == "student"
    assert "teacher, 2 steps" not in " ".join(what_was_run(run))
    assert results_table([run]).caption.startswith("Mean ± standard deviation over 3 seeds")
    steps = [row.cells[0].text for row in results_table([run]).rows if row.label == "student"]
    assert steps == ["1"]  # and not "1 ± 0"


def test_the_page(make_run) -> None:
    page = render_report([make_run(record())])
    assert page.count("against the number of network evaluations") == 2  # quality and speed
    assert "teacher, 2 steps 2: 400.0" in page
    assert "student 1: 12.0" in page
    assert "1 of 1 histories" not in page  # a variant has no losses, and needs none
    assert "against the number of network evaluations" not in render_report([make_run(results(name="second"))])


def test_a_measure_that_is_not_positive(tmp_path) -> None:
    run = record()
    moved = [dataclasses.replace(m, values={**m.values, "elbo": m.values["fid_data"] - 10}) for m in run.results]
    svg = steps_figure(dataclasses.replace(run, results=moved), run.measures[2], dict.fromkeys(FID, "blue"))
    assert svg is not None
    assert "student 1: 2.00" in svg


def test_a_record_without_variants_is_read_as_before(tmp_path) -> None:
    old = results()
    text = old.to_json().replace('"variants": []', '"dry_run": false')
    (tmp_path / "metrics.json").write_text(text)
    found = RunResults.from_file(tmp_path / "metrics.json")
    assert found.variants == []
    assert found.trained == found.methods
    assert isinstance(found.results[0], ModelResult)
