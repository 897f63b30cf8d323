"""Sweeps: what is trained, how often, and what happens when something stops or fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from joblib.externals.loky import get_reusable_executor

import limbeck.files
from limbeck.engine.experiments.experiment import Experiment
from limbeck.engine.experiments.shared_stages import SharedStages
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.ranks import is_main_process
from limbeck.engine.sweeps.sweep import default_jobs
from limbeck.engine.sweeps.sweep_worker import ReportingProgress
from limbeck.engine.training.module import StudentModule
from limbeck.errors import RecipeError
from limbeck.metrics import RunResults
from limbeck.metrics.sweep_results import SweepResults
from tests.engine.sweeps.small_sweeps import WEIGHTS, WIDTHS, sweep
from tests.tiny import counted, die, hashes, in_child


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_points_are_ordinary_runs_and_stages_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights and numbers as the run alone; as many steps as there are distinct models."""
    from tests.tiny import call

    steps = 0
    plain = StudentModule.training_step

    def counting(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        return plain(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StudentModule, "training_step", counting)
        record = sweep(tmp_path, WIDTHS, WEIGHTS).run()
    assert steps == 12 * (1 + 2 + 6)
    assert record.failed == []
    assert SweepResults.from_file(tmp_path / "sweep" / "sweep.json") == record
    monkeypatch.setattr("limbeck.report.write_report", lambda runs, out: out)
    words = ["--student.width=5", "--objective.latent_weight=10"]
    assert call("run", tmp_path / "spots.yaml", *words, "--name=alone") == 0
    alone, point = tmp_path / "runs/spots/alone", tmp_path / "sweep" / record.points[-1].name
    assert hashes(alone) == hashes(point)
    numbers = [
        {r.method: r.values["brightness"] for r in RunResults.from_file(run / "metrics.json").results}
        for run in (alone, point)
    ]
    assert numbers[0] == numbers[1]
    names = [{path.name for path in (run / "teacher").iterdir()} for run in (alone, point)]
    assert names[0] == names[1]
    assert not list((tmp_path / "sweep").rglob("*.ckpt"))
    assert not (tmp_path / "sweep" / "reports").exists()
    # One file under several names, and still whole when the shared folder is gone.
    assert (point / "teacher/model.safetensors").stat().st_nlink == 7
    again = counted(plain, 1, lambda: pytest.fail("trained again"))
    monkeypatch.setattr(StudentModule, "training_step", again)
    assert sweep(tmp_path, WIDTHS, WEIGHTS).run() == record


def test_values_that_are_added_later_train_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another axis or value gives points other names: their models are found all the same."""
    sweep(tmp_path, WIDTHS).run()
    steps = []
    plain = StudentModule.training_step
    monkeypatch.setattr(StudentModule, "training_step", lambda *a: steps.append(1) or plain(*a))
    sweep(tmp_path, "--over=student.width=3,4,5", "--over=objective.latent_weight=1e-3").run()
    assert len(steps) == 12 * 2  # width 4 from scratch and distilled; 1e-3 is the default
    assert len(hashes(tmp_path / "sweep", "*/teacher/*.safetensors")) == 5


@pytest.mark.parametrize(
    ("target", "name", "limit"),
    [(StudentModule, "training_step", 5), (os, "fsync", 16), (os, "link", 2)],
    ids=["every few steps", "when data goes to the disk", "when a run takes a file"],
)
def test_a_sweep_killed_again_and_again_ends_as_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Any, name: str, limit: int
) -> None:
    whole = sweep(tmp_path, WIDTHS, name="whole", baselines={}).run()
    for life in range(60):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, counted(getattr(target, name), limit + life % 3, die))
            if in_child(lambda: int(bool(sweep(tmp_path, WIDTHS, baselines={}).run().failed))) == 0:
                break
    assert life >= 3
    assert hashes(tmp_path / "sweep") == hashes(tmp_path / "whole")
    found = SweepResults.from_file(tmp_path / "sweep" / "sweep.json")
    assert found.points == whole.points
    left = [path for path in (tmp_path / "sweep").rglob("*") if path.name.startswith(".limbeck") or "ckpt" in path.name]
    assert left == []


def test_a_truncated_checkpoint_of_a_shared_teacher_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(tmp_path, WIDTHS, name="whole").run()
    with monkeypatch.context() as patch:
        patch.setattr(StudentModule, "training_step", counted(StudentModule.training_step, 9, die))
        in_child(lambda: bool(sweep(tmp_path, WIDTHS).run()))
    last = next((tmp_path / "sweep" / "stages").glob("*/last.ckpt"))
    last.write_bytes(last.read_bytes()[:1000])
    sweep(tmp_path, WIDTHS).run()
    assert hashes(tmp_path / "sweep") == hashes(tmp_path / "whole")
    assert "is damaged" in (last.parent / "log.txt").read_text()


def test_a_point_that_fails_leaves_the_others(tmp_path: Path) -> None:
    """A learning rate that is no good: the others go on, the message names the step, the next try tells the same."""
    made = sweep(tmp_path, "--over=training.learning_rate=0.01,1e30", baselines={})
    record = made.run()
    assert [point.name for point in record.failed] == ["training.learning_rate=1e+30"]
    assert "non-finite" in record.failed[0].error.lower()
    assert (tmp_path / "sweep" / record.points[0].name / "metrics.json").exists()
    assert f"failed: {record.failed[0].error}" in (tmp_path / "sweep" / record.failed[0].name / "log.txt").read_text()
    assert made.run() == record


def test_a_mistake_in_the_users_own_code_is_told(tmp_path: Path) -> None:
    """Not one of our errors: told with its kind, and with where it happened in the log."""
    record = sweep(tmp_path, "--over=student.latents=2,3").run()
    assert [point.error[:40] for point in record.failed] != []
    name = record.failed[0].name
    assert "latents=3" in name
    assert record.failed[0].error.split(":")[0] in ("RuntimeError", "ValueError") or "z2" in record.failed[0].error


@pytest.mark.slow
def test_several_processes_train_the_same_models(tmp_path: Path) -> None:
    """Two processes, in another interpreter each: the same bits with the same number of threads a process."""
    one = sweep(tmp_path, WIDTHS, name="one").run()
    try:
        two = sweep(tmp_path, WIDTHS, name="two", jobs=2).run()
    finally:
        get_reusable_executor().shutdown(wait=True)
    assert one.points == two.points
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    for point in one.points:
        first, second = (RunResults.from_file(tmp_path / n / point.name / "metrics.json") for n in ("one", "two"))
        for a, b in zip(first.results, second.results, strict=True):
            assert a.values["brightness"] == b.values["brightness"]


@pytest.mark.slow
def test_ray_trains_the_same_models(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    one = sweep(tmp_path, WIDTHS, name="one").run()
    made = sweep(tmp_path, WIDTHS, name="two", jobs=2)
    made.backend = "ray"
    record = made.run()
    assert not ray.is_initialized()
    assert record.points == one.points
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_a_missing_ray_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    made = sweep(tmp_path, WIDTHS)
    made.backend = "ray"
    with pytest.raises(RecipeError, match=r"limbeck\[cluster\]"):
        made.run()
    assert not list((tmp_path / "sweep").glob("stages"))


def test_impossible_sweeps_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match="--jobs must be at least 1, not 0"):
        sweep(tmp_path, WIDTHS, jobs=0)
    with pytest.raises(RecipeError, match=r"one device.*trainer.devices=1"):
        sweep(tmp_path, WIDTHS, "--trainer.devices=2")
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()
    with pytest.raises(RecipeError, match="as one process"):
        sweep(tmp_path, WIDTHS)


def test_processes_share_the_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    assert default_jobs("cpu") == 8
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (default_jobs("cpu"), default_jobs("auto"), default_jobs("gpu")) == (8, 1, 1)
    monkeypatch.delenv("OMP_NUM_THREADS")
    made = sweep(tmp_path, WIDTHS, jobs=3)
    assert made.threads == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert made.threads == 5


def test_models_are_copied_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(limbeck.files.os, "link", refuse)
    record = sweep(tmp_path, WIDTHS, baselines={}).run()
    assert record.failed == []
    weights = tmp_path / "sweep" / record.points[0].name / "teacher" / "model.safetensors"
    assert weights.stat().st_nlink == 1
    assert weights.read_bytes() in [path.read_bytes() for path in (tmp_path / "sweep/stages").glob("*/model.*")]


def test_shared_models_are_measured_once(tmp_path: Path) -> None:
    from limbeck.engine.stages.stage import Stage

    shared, calls = SharedStages(tmp_path / "stages"), []

    def measure(folder: Path) -> dict[str, Any]:
        calls.append(folder)
        (folder / "samples.png").write_bytes(b"picture")
        return {"fid": 1.5}

    for run in ("a", "b"):
        assert shared.measure(Stage(tmp_path / run, "evaluation", "key"), measure) == {"fid": 1.5}
        assert (tmp_path / run / "samples.png").read_bytes() == b"picture"
        assert Stage(tmp_path / run, "evaluation", "key").result == {"fid": 1.5}
    assert len(calls) == 1


def test_a_model_alone_needs_shared_stages(tmp_path: Path) -> None:
    recipe = sweep(tmp_path, WIDTHS).points[0].recipe
    given = {"resolved": "", "name": "spots", "directory": tmp_path / "run", "cache": tmp_path, "command": ""}
    with pytest.raises(ValueError, match="give the experiment shared=SharedStages"):
        Experiment(recipe, **given, progress=Progress()).train()


def test_a_report_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    progress = ReportingProgress(tmp_path / "nowhere" / "report")
    progress.start("teacher", 3)
    progress.end("")
    assert isinstance(progress, Progress)
