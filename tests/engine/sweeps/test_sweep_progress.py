"""What is told of models that other processes train."""

from __future__ import annotations

from pathlib import Path

import pytest

from limbeck.engine.sweeps.sweep_progress import Item, SweepProgress
from limbeck.engine.sweeps.sweep_worker import ReportingProgress


def test_progress_of_other_processes_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [Item("model", "teacher", 10), Item("point", "width=3"), Item("bad", "width=4")]
    with SweepProgress(items, tmp_path):
        model, point, bad = (ReportingProgress(tmp_path / item.report) for item in items)
        model.start("teacher", 10)
        model.message("Warning: no checkpoint")
        point.message("measuring teacher")
        model.end("")
        point.end("")
        bad.end("it diverged")
    err = " ".join(capsys.readouterr().err.split())
    assert "teacher: Warning: no checkpoint" in err
    assert "measuring" not in err
    assert "1 of 1 models" in err
    assert "2 of 2 points" in err
    assert "width=4 failed: it diverged" in err


def test_the_time_left_is_estimated(tmp_path: Path) -> None:
    """Steps of earlier commands say nothing about the speed of this one."""
    progress = SweepProgress([Item("model", "teacher", 100), Item("point", "width=3")], tmp_path)
    report = ReportingProgress(tmp_path / "model")
    report.start("teacher", 100, 20)
    progress._look()
    assert progress._left(3600.0) == ""
    report.start("teacher", 100, 60)
    assert progress._left(3600.0) == ", about 1 h 0 min of training left"
    report.end("")
    assert progress._left(3600.0) == ""
