"""A run that is stopped at any moment and started again ends as if it had never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from limbeck.engine.evaluations.images.image_evaluation import ImageJudge
from limbeck.engine.stages.locking import locked
from limbeck.engine.training.checkpoints import read_checkpoint
from limbeck.engine.training.module import StudentModule
from tests.cli.whole_runs import numbers, prepared, run
from tests.tiny import call, counted, hashes, in_child, write_recipe

pytestmark = pytest.mark.usefixtures("untimed", "no_page")

ROOT = Path(__file__).parents[2]
STAGES = ["spots/default/students/scratch/0", "spots/default/students/surrogate/0", "spots/default/teacher"]


def lives(folder: Path, patch: pytest.MonkeyPatch, target: object, name: str, limit: int) -> int:
    """Run again and again, killed at the ``limit``-th call of a function or soon after; how often it was killed."""
    finished: dict[Path, int] = {}
    for life in range(60):
        with patch.context() as context:
            context.setattr(target, name, counted(getattr(target, name), limit + life % 4))
            status = in_child(lambda: run(folder))
        for path, stamp in finished.items():
            assert path.stat().st_mtime_ns == stamp, f"{path} was made again"
        for path in folder.glob("runs/**/training.json"):
            if '"finished": true' in path.read_text():
                weights = path.with_name("model.safetensors")
                finished[weights] = weights.stat().st_mtime_ns
        if status == 0:
            return life
        assert status == -signal.SIGKILL
    raise AssertionError("it never came to an end")


MOMENTS = {
    "every few steps": (StudentModule, "training_step", 5),
    "when a file gets its name": (os, "replace", 4),
    "when data goes to the disk": (os, "fsync", 9),
}


@pytest.mark.parametrize("kind", ["plain", "ema"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_again_and_again_ends_as_a_whole_one(
    tmp_path: Path, whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str, moment: str
) -> None:
    prepared(tmp_path, kind)
    assert lives(tmp_path, monkeypatch, *MOMENTS[moment]) >= 3
    expected = hashes(whole[kind])
    assert len(expected) == 4  # three models and the extractor
    assert hashes(tmp_path / "runs") == expected
    assert numbers(tmp_path / "runs") == numbers(whole[kind])
    left = [
        path.name for path in (tmp_path / "runs").rglob("*") if path.name.startswith(".limbeck") or "ckpt" in path.name
    ]
    assert left == []


def test_a_run_killed_while_measuring_ends_as_a_whole_one(
    tmp_path: Path, whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path, "plain")
    assert lives(tmp_path, monkeypatch, ImageJudge, "measure", 2) >= 1
    assert hashes(tmp_path / "runs") == hashes(whole["plain"])
    assert numbers(tmp_path / "runs") == numbers(whole["plain"])


def test_finished_run_does_nothing_again(whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    runs = whole["plain"]
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")}
    monkeypatch.setattr(StudentModule, "training_step", None)
    monkeypatch.setattr("limbeck.engine.evaluations.images.image_evaluation.ImageJudge.measure", None)
    assert run(runs.parent) == 0
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")} == before


def test_only_what_changed_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another weight of the method's loss: teacher and baseline stay, the old student is kept beside the new one."""
    path = write_recipe(tmp_path)
    words = ["run", path, f"--output={tmp_path / 'runs'}"]
    assert call(*words) == 0
    before = hashes(tmp_path / "runs")
    steps = 0
    plain = StudentModule.training_step

    def counting(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        return plain(*arguments)

    monkeypatch.setattr(StudentModule, "training_step", counting)
    assert call(*words, "--objective.latent_weight=5") == 0
    after = hashes(tmp_path / "runs")
    assert steps == 12
    changed = "spots/default/students/surrogate/0/model.safetensors"
    assert {name for name, value in before.items() if after[name] != value} == {changed}
    aside = [name for name in after if name not in before]
    assert len(aside) == 1
    assert after[aside[0]] == before[changed]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_once_with_a_message(
    tmp_path: Path, whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    """Ctrl-C in the third stage: a message, status 130, no further stage, and the next run goes on from there."""
    prepared(tmp_path, "plain")
    step = 12 + 4 + 8  # teacher, extractor, two thirds of the student
    err = tmp_path / "err"

    def interrupted() -> int:
        # A shell that starts the tests in the background lets them ignore interruptions.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stopping = counted(StudentModule.training_step, step, lambda: os.kill(os.getpid(), kind))
        monkeypatch.setattr(StudentModule, "training_step", stopping)
        with err.open("w") as sys.stderr:
            return run(tmp_path)

    assert in_child(interrupted) == 128 + kind
    text = err.read_text()
    assert text.count("limbeck: error: stopped") == 1
    assert "Run the same command again" in text
    assert "Traceback" not in text
    assert not (tmp_path / "runs/spots/default/students/scratch").exists()
    assert read_checkpoint(tmp_path / "runs/spots/default/students/surrogate/0/last.ckpt")["global_step"] == 6
    assert run(tmp_path) == 0
    assert hashes(tmp_path / "runs") == hashes(whole["plain"])


def test_a_second_process_in_the_same_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_recipe(tmp_path)
    with locked(tmp_path / "runs" / "spots" / "default"):
        status = in_child(lambda: call("run", path, f"--output={tmp_path / 'runs'}"))
    assert status == 1


@pytest.mark.slow
def test_processes_killed_by_the_clock_end_as_a_whole_run(tmp_path: Path, whole: dict[str, Path]) -> None:
    """Real processes, killed at moments that nobody chose."""
    prepared(tmp_path, "plain")
    command = [sys.executable, "-m", "limbeck", "run", "spots.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    killed = 0
    for wait in (4.0, 5.0, 6.0, 7.0, 8.0, 600.0):
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
        try:
            status = process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
            time.sleep(0.1)
        else:
            assert status == 0
            break
    assert killed >= 1
    assert hashes(tmp_path / "runs") == hashes(whole["plain"])


def test_students_of_one_seed_start_alike(whole: dict[str, Path]) -> None:
    """The weights themselves differ: no stage simply copied another."""
    runs = whole["plain"]
    first, second = (load_file(runs / stage / "model.safetensors") for stage in STAGES[:2])
    assert first.keys() == second.keys()
    assert not torch.equal(first["body.0.weight"], second["body.0.weight"])
