"""The recipes of the methods that the framework generalises ([U] Sec. 3.5), each run in a reduced form."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from limbeck.cli.main import main

METHODS = {
    "kd-digits": ["vanilla", "without-labels", "scratch"],
    "feature-kd-digits": ["feature", "feature-and-hint", "vanilla", "scratch"],
    "sequence-kd": ["sequence-level", "sequence-mode", "word-level", "scratch"],
    "gan-digits": ["output-and-features", "output", "scratch"],
}
NUMBERS = {
    "kd-digits": {"nll", "accuracy", "ece", "kl_teacher"},
    "feature-kd-digits": {"nll", "accuracy", "ece", "kl_teacher"},
    "sequence-kd": {"nll", "kl_teacher", "right_beam", "right_greedy", "right_drawn"},
    "gan-digits": {"fid_data", "fid_teacher"},
}


@pytest.mark.parametrize("name", METHODS)
def test_reduced_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    status = main(["run", name, "--dry-run", f"--output={tmp_path}"])
    assert status == 0, capsys.readouterr().err
    directory = tmp_path / name / "dry-run"
    record = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    assert [result["method"] for result in record["results"]] == ["teacher", *METHODS[name]]
    sizes = [result["values"]["parameters_generative"] for result in record["results"]]
    assert sizes[0] > 10 * sizes[1]
    assert len(set(sizes[1:])) == 1
    for result in record["results"]:
        assert set(result["values"]) >= NUMBERS[name]
        assert all(math.isfinite(value) for value in result["values"].values())
        learned = (directory / result["directory"] / "objective.safetensors").exists()
        assert learned == (result["method"] in ("feature-and-hint", "output-and-features"))
    key = "fid_teacher" if name == "gan-digits" else "kl_teacher"
    values = {result["values"][key] for result in record["results"][1:]}
    assert len(values) == len(METHODS[name])  # one initialisation, so that only the methods can make them differ
    assert (directory / "report.html").stat().st_size > 10_000
