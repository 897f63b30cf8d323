"""Reports of long work: silence by default, a log that passes everything on, bars and lines for a terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from limbeck.engine.stages.progress import LoggedProgress, Progress
from limbeck.engine.stages.terminal_progress import TerminalProgress
from tests.listening import Recorder


def report(progress: Progress) -> None:
    """Every kind of report once; the second stage was done before."""
    progress.expect(30)
    progress.start("student", 20, 5)
    progress.advance(6, 0.5)
    progress.validated(0.75)
    progress.stop(6)
    progress.message("[student] is written")
    progress.start("judge", 10, 10)
    progress.advance(10)


def test_the_base_class_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    report(Progress())
    assert capsys.readouterr() == ("", "")


class TestLogged:
    def test_every_report_is_passed_on(self, tmp_path: Path) -> None:
        direct, inner = Recorder(), Recorder()
        report(direct)
        report(LoggedProgress(inner, tmp_path / "log.txt"))
        assert vars(inner) == vars(direct)
        assert all(vars(direct).values())  # or the comparison would say nothing

    def test_stages_and_messages_are_kept_with_the_time(self, tmp_path: Path) -> None:
        for _ in range(2):  # a run and its continuation
            report(LoggedProgress(Progress(), tmp_path / "log.txt"))
        lines = (tmp_path / "log.txt").read_text().splitlines()
        assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
        assert [line[20:] for line in lines] == 2 * ["student: steps 5 to 20", "[student] is written", "judge: kept"]

    def test_a_log_that_cannot_be_written_stops_nothing(self, tmp_path: Path) -> None:
        inner = Recorder()
        report(LoggedProgress(inner, tmp_path / "nowhere" / "log.txt"))
        assert inner.messages == ["[student] is written"]


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress() as progress:
        report(progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split("s] ")[-1] for line in err.splitlines() if line] == [
        "student: 15 steps", "[student] is written", "judge: 0 steps"
    ]  # fmt: skip


def test_bars_expect_fewer_steps_of_a_training_that_stopped() -> None:
    progress = TerminalProgress()
    progress.expect(200)
    for _ in range(2):
        progress.start("student", 100)
        progress.advance(30)
        progress.validated(0.25)
        progress.stop(40)
    whole, stage = progress._bars.tasks
    assert (whole.total, whole.completed) == (80, 80)
    assert (stage.total, stage.completed) == (40, 40)
