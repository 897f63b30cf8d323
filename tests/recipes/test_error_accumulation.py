"""The two recipes of error accumulation: chains of several lengths, each run in a reduced form."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from limbeck.cli.main import main

METHODS = {
    "error-accumulation": ["surrogate", "local"],
    "error-accumulation-discrete": ["surrogate", "surrogate-straight-through", "local"],
}


@pytest.mark.parametrize("name", METHODS)
def test_reduced_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    axis = "teacher.layers,student.layers=1,3"
    status = main(["run", name, "--dry-run", "--jobs=1", f"--over={axis}", f"--output={tmp_path}"])
    assert status == 0, capsys.readouterr().err
    directory = tmp_path / name / "sweep-dry-run"
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(directory.glob("*/metrics.json"))]
    assert len(records) == 2
    for layers, record in zip((1, 3), records, strict=True):
        assert [result["method"] for result in record["results"]] == ["teacher", *METHODS[name]]
        teacher, *students = (result["values"] for result in record["results"])
        assert abs(teacher["kl"]) < 1e-9
        size = 8 if name == "error-accumulation" else 7
        assert [values["parameters_generative"] for values in students] == [layers * size] * len(students)
        for values in students:
            assert values["kl"] > 1e-4
            assert all(math.isfinite(value) for value in values.values())
        # One initialisation, and with one layer there are no latents to differ in.
        assert len({values["kl"] for values in students}) == (1 if layers == 1 else len(students))
    page = (directory / "report.html").read_text(encoding="utf-8")
    assert "KL from the teacher, exact" in page
