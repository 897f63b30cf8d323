"""Numbers are measured again when the code that measures them changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from limbeck.engine.evaluations.density_evaluation import DensityEvaluation, DensityJudge
from limbeck.engine.experiments.measurement_key import measuring_code
from limbeck.engine.stages import source_code
from limbeck.metrics import energy_distance
from tests.tiny import call, write_recipe

OWN = """
import tests.tiny
from {helper} import FACTOR

class Judge(tests.tiny.QuickJudge):
    def measure(self, subject):
        return {{"brightness": FACTOR * {factor}}}

class Ev(tests.tiny.Quick):
    def judge(self, dataset, teacher, cache, seed, progress):
        return Judge(self.samples, seed)
"""


def measured() -> str:
    return (Path("runs/spots/default/metrics.json")).read_text()


def test_a_changed_evaluation_measures_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was edited, whose helper was, or another of the same name; and nothing again if it did not change."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("limbeck.report.write_report", lambda runs, out: out)
    path = write_recipe(Path())
    for number, helper, factor in [(1, 1, 1), (2, 1, 5), (3, 2, 5)]:
        Path(f"helper{number}.py").write_text(f"FACTOR = {helper}\n")
        Path(f"ev{number}.py").write_text(OWN.format(helper=f"helper{number}", factor=factor))
    monkeypatch.syspath_prepend(tmp_path)
    for number, expected in [(1, 1), (2, 5), (3, 10)]:
        assert call("run", path, f"--evaluation=ev{number}.Ev") == 0
        assert f'"brightness": {expected}' in measured()
    stamp = Path("runs/spots/default/teacher/evaluation.json").stat().st_mtime_ns
    assert call("run", path, "--evaluation=ev3.Ev") == 0
    assert Path("runs/spots/default/teacher/evaluation.json").stat().st_mtime_ns == stamp


def test_measures_of_this_library_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of an evaluation, of its judge and of the measures that they use; not that of a training."""
    read: list[str] = []
    plain = source_code.source_text
    monkeypatch.setattr(source_code, "source_text", lambda of, own: (read.append(of.__name__), plain(of, own))[1])
    measuring_code(DensityEvaluation, DensityJudge)
    assert {DensityEvaluation.__module__, energy_distance.__module__, "limbeck.engine.evaluations.evaluation"} <= set(
        read
    )
    assert not [name for name in read if name.startswith(("limbeck.core", "limbeck.engine.training", "torch"))]
