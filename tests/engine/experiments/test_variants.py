"""Models that an evaluation measures although nobody trained them: rows of their own, measured once."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from limbeck.cli.main import main
from limbeck.core.graph import DGM
from limbeck.data import Dataset
from limbeck.engine.evaluations.evaluation import Judge, Subject
from limbeck.engine.stages.progress import Progress
from tests.tiny import Quick, QuickJudge, Tiny, built, write_recipe

MEASURED: list[tuple[str, bool]] = []


class WithVariants(Quick):
    """Measures the teacher and two other models."""

    def judge(self, dataset: Dataset | None, teacher: DGM, cache: Path, seed: int, progress: Progress) -> Judge:
        return VariantJudge(self.samples, seed)


class VariantJudge(QuickJudge):
    def variants(self) -> Mapping[str, DGM]:
        # The same weights under two names: what is measured must not be mixed up.
        return {"teacher, 1 step": built(Tiny, 1).eval(), "teacher, 2 steps": built(Tiny, 1).eval()}

    def measure(self, subject: Subject) -> dict[str, float]:
        MEASURED.append((subject.directory.name, subject.variant))
        return super().measure(subject) | {"order": float(len(MEASURED))}


def test_rows_of_their_own_measured_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The recipe names the class by its module, which is not the one that pytest has made of this file.
    measured = importlib.import_module("tests.engine.experiments.test_variants").MEASURED
    measured.clear()
    changes = {"evaluation": {"class_path": "tests.engine.experiments.test_variants.WithVariants"}}
    path = write_recipe(tmp_path, **changes)
    words = ["run", str(path), f"--output={tmp_path}"]
    assert main(words) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "spots" / "default" / "metrics.json").read_text())
    rows = {result["method"]: result for result in found["results"]}
    assert list(rows) == ["teacher", "teacher, 1 step", "teacher, 2 steps", "surrogate", "scratch"]
    assert found["variants"] == ["teacher, 1 step", "teacher, 2 steps"]
    one, two = rows["teacher, 1 step"], rows["teacher, 2 steps"]
    assert one["directory"] == "variants/teacher-1-step"
    assert (one["seed"], one["settings"]) == (None, {})
    assert one["values"]["brightness"] == two["values"]["brightness"] != rows["teacher"]["values"]["brightness"]
    assert one["values"]["order"] != two["values"]["order"]
    assert [variant for _, variant in measured[:4]] == [False, True, True, False]
    times = len(measured)
    assert main(words) == 0
    assert len(measured) == times  # a run that is done measures nothing again
    assert "teacher, 2 steps" in capsys.readouterr().out
