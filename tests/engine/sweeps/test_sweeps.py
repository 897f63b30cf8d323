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
from limbeck.engine.sweeps.sweep import Sweep, default_jobs
from limbeck.engine.sweeps.sweep_plan import plan
from limbeck.engine.sweeps.sweep_progress import Item, SweepProgress
from limbeck.engine.sweeps.sweep_worker import ReportingProgress
from limbeck.engine.training.module import StudentModule
from limbeck.errors import RecipeError
from limbeck.metrics import RunResults
from limbeck.metrics.sweep_results import SweepResults
from tests.tiny import STEPS, counted, die, hashes, in_child, write_recipe


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sweep(folder: Path, *words: str, name: str = "sweep", jobs: int = 1, **changes: Any) -> Sweep:
    """As the command line would make it."""
    from limbeck.cli.recipe_parser import RecipeCommand
    from limbeck.cli.sweep import _axes, _point
    from limbeck.engine.experiments.axes import grid

    command = RecipeCommand.of("sweep", [str(write_recipe(folder, **changes)), *words])
    axes = _axes(command, command.parsed())
    points = [_point(command, point) for point in grid(axes)]
    return Sweep(axes, points, name="spots", directory=folder / name, cache=folder / "cache", command="", jobs=jobs)


WIDTHS = "--over=student.width=3,5"
WEIGHTS = "--over=objective.latent_weight=0,1,10"


def labels(made: Sweep) -> list[list[str]]:
    return [[f"{part.point} {part.method} {part.seed}" for part in parts] for parts in plan(made.points)]


class TestPlan:
    def test_every_model_once(self, tmp_path: Path) -> None:
        """A teacher for all, a scratch student for each width, a surrogate for each point."""
        first, second = labels(sweep(tmp_path, WIDTHS, WEIGHTS))
        assert first == ["0 None 0", "0 scratch 0", "3 scratch 0"]
        assert second == [f"{point} surrogate 0" for point in range(6)]

    def test_longest_first(self, tmp_path: Path) -> None:
        first, _ = labels(sweep(tmp_path, WIDTHS, training=STEPS | {"steps": 20}))
        assert first == ["0 scratch 0", "1 scratch 0", "0 None 0"]

    def test_teachers_that_differ(self, tmp_path: Path) -> None:
        first, second = labels(sweep(tmp_path, "--over=teacher.width,student.width=3,5", "--seeds=2"))
        assert {part for part in first if "None" in part} == {"0 None 0", "1 None 0"}
        assert len(second) == 4

    def test_teacher_that_needs_no_training(self, tmp_path: Path) -> None:
        first, second = labels(sweep(tmp_path, WIDTHS, teacher_training=None))
        assert len(first) == 4
        assert second == []


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


def test_more_values_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_killed_again_and_again(
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


def test_truncated_checkpoint_of_a_shared_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(tmp_path, WIDTHS, name="whole").run()
    with monkeypatch.context() as patch:
        patch.setattr(StudentModule, "training_step", counted(StudentModule.training_step, 9, die))
        in_child(lambda: bool(sweep(tmp_path, WIDTHS).run()))
    last = next((tmp_path / "sweep" / "stages").glob("*/last.ckpt"))
    last.write_bytes(last.read_bytes()[:1000])
    sweep(tmp_path, WIDTHS).run()
    assert hashes(tmp_path / "sweep") == hashes(tmp_path / "whole")
    assert "is damaged" in (last.parent / "log.txt").read_text()


def test_one_point_fails(tmp_path: Path) -> None:
    """A learning rate that is no good: the others go on, the message names the step, the next try tells the same."""
    made = sweep(tmp_path, "--over=training.learning_rate=0.01,1e30", baselines={})
    record = made.run()
    assert [point.name for point in record.failed] == ["training.learning_rate=1e+30"]
    assert "non-finite" in record.failed[0].error.lower()
    assert (tmp_path / "sweep" / record.points[0].name / "metrics.json").exists()
    assert f"failed: {record.failed[0].error}" in (tmp_path / "sweep" / record.failed[0].name / "log.txt").read_text()
    assert made.run() == record


def test_mistake_in_the_users_own_code(tmp_path: Path) -> None:
    """Not one of our errors: told with its kind, and with where it happened in the log."""
    record = sweep(tmp_path, "--over=student.latents=2,3").run()
    assert [point.error[:40] for point in record.failed] != []
    name = record.failed[0].name
    assert "latents=3" in name
    assert record.failed[0].error.split(":")[0] in ("RuntimeError", "ValueError") or "z2" in record.failed[0].error


@pytest.mark.slow
def test_same_in_several_processes(tmp_path: Path) -> None:
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
def test_ray(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    one = sweep(tmp_path, WIDTHS, name="one").run()
    made = sweep(tmp_path, WIDTHS, name="two", jobs=2)
    made.backend = "ray"
    record = made.run()
    assert not ray.is_initialized()
    assert record.points == one.points
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_ray_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    made = sweep(tmp_path, WIDTHS)
    made.backend = "ray"
    with pytest.raises(RecipeError, match=r"limbeck\[cluster\]"):
        made.run()
    assert not list((tmp_path / "sweep").glob("stages"))


def test_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_copies_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(limbeck.files.os, "link", refuse)
    record = sweep(tmp_path, WIDTHS, baselines={}).run()
    assert record.failed == []
    weights = tmp_path / "sweep" / record.points[0].name / "teacher" / "model.safetensors"
    assert weights.stat().st_nlink == 1
    assert weights.read_bytes() in [path.read_bytes() for path in (tmp_path / "sweep/stages").glob("*/model.*")]


def test_measured_once(tmp_path: Path) -> None:
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


def test_progress_of_other_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_time_left(tmp_path: Path) -> None:
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


def test_a_model_alone_needs_shared_stages(tmp_path: Path) -> None:
    recipe = sweep(tmp_path, WIDTHS).points[0].recipe
    given = {"resolved": "", "name": "spots", "directory": tmp_path / "run", "cache": tmp_path, "command": ""}
    with pytest.raises(ValueError, match="give the experiment shared=SharedStages"):
        Experiment(recipe, **given, progress=Progress()).train()


def test_report_that_cannot_be_written(tmp_path: Path) -> None:
    progress = ReportingProgress(tmp_path / "nowhere" / "report")
    progress.start("teacher", 3)
    progress.end("")
    assert isinstance(progress, Progress)
