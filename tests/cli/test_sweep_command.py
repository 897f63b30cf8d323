"""``limbeck sweep`` as a user types it, and ``limbeck run`` of a recipe that has a sweep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from limbeck.metrics import RunResults
from limbeck.metrics.sweep_results import SweepResults
from tests.tiny import STEPS, call, hashes, write_recipe

ROOT = Path(__file__).parents[2]
LAYERS = [{"keys": ["teacher.width", "student.width"], "values": [2, 3, 4], "label": "width of both"}]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of each point is not what is tested here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("limbeck.report.write_report", lambda runs, out: out)


def record(name: str = "sweep", recipe: str = "spots") -> SweepResults:
    return SweepResults.from_file(Path("runs") / recipe / name / "sweep.json")


def test_grid_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The line of the documentation: axes, and an override with a space."""
    path = write_recipe(Path())
    words = ["--over", "student.width=2,3", "--over=objective.latent_weight=0,1e-3", "--seeds", "2", "--jobs=1"]
    assert call("sweep", path, *words) == 0
    out = capsys.readouterr().out
    found = record()
    assert [point.name for point in found.points] == [
        "student.width=2,objective.latent_weight=0",
        "student.width=2,objective.latent_weight=0.001",
        "student.width=3,objective.latent_weight=0",
        "student.width=3,objective.latent_weight=0.001",
    ]
    assert [(axis.label, axis.values) for axis in found.axes] == [("width", [2, 3]), ("latent_weight", [0, 0.001])]
    assert "width = 3, latent_weight = 0.001" in " ".join(out.split())
    assert "every point" in out
    assert "Report: runs/spots/sweep/report.html" in out
    point = Path("runs/spots/sweep", found.points[3].name)
    results = RunResults.from_file(point / "metrics.json")
    assert [(r.method, r.seed) for r in results.results] == [
        ("teacher", 0), ("surrogate", 0), ("scratch", 0), ("surrogate", 1), ("scratch", 1)
    ]  # fmt: skip
    parts = yaml.safe_load((point / "recipe.yaml").read_text())
    assert parts["student"]["init_args"]["width"] == 3
    assert parts["objective"]["init_args"]["latent_weight"] == 0.001
    assert parts["sweep"] == []
    alone = "limbeck run spots.yaml --seeds 2 --student.width=3 --objective.latent_weight=0.001"
    alone += f" --name=sweep-{found.points[3].name}"  # under the sweep's name it would take its place
    assert results.command.replace(str(path), "spots.yaml") == alone


def test_run_of_a_recipe_with_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    path = write_recipe(Path(), sweep=LAYERS, baselines={})
    assert call("run", path, "--jobs=1") == 0
    found = record()
    assert [point.name for point in found.points] == [f"teacher.width+student.width={width}" for width in (2, 3, 4)]
    assert found.axes[0].label == "width of both"
    teachers = [json.loads((Path("runs/spots/sweep") / p.name / "teacher/config.json").read_text())["config"]["width"]
                for p in found.points]  # fmt: skip
    assert teachers == [2, 3, 4]
    resolved = yaml.safe_load(Path("runs/spots/sweep/recipe.yaml").read_text())
    assert resolved["sweep"] == LAYERS
    before = hashes(Path())
    # Once, without the axes; and with other values on the axis, of which one is there.
    assert call("run", path, "--sweep=[]", "--name=sweep") == 2
    assert "runs/spots/sweep is a sweep; give the single run another name" in capsys.readouterr().err
    assert call("run", path, "--sweep=[]") == 0
    assert call("sweep", path, "--name=default", "--jobs=1") == 2
    assert "runs/spots/default is a single run; give the sweep another name" in capsys.readouterr().err
    assert Path("runs/spots/default/metrics.json").exists()
    assert call("sweep", path, "--over=student.width,teacher.width=3,5", "--jobs=1") == 0
    assert [point.values for point in record().points] == [[3], [5]]
    assert record().axes[0].label == "width of both"
    after = hashes(Path())
    assert {name: after[name] for name in before} == before
    assert "straight" not in capsys.readouterr().err


def test_a_run_and_a_sweep_of_one_recipe_have_directories_of_their_own() -> None:
    path = write_recipe(Path(), baselines={})
    for words in (["run", path], ["sweep", path, "--over=seed=1,2", "--jobs=1"], ["run", path]):
        assert call(*words) == 0
    assert {folder.name for folder in Path("runs/spots").iterdir()} == {"default", "sweep"}


def test_dry_run() -> None:
    assert call("sweep", write_recipe(Path(), baselines={}), "--over=seed=3,4", "--dry-run", "--jobs=1") == 0
    found = record("sweep-dry-run")
    assert found.dry_run
    results = [
        RunResults.from_file(Path("runs/spots/sweep-dry-run") / point.name / "metrics.json") for point in found.points
    ]
    assert [[model.seed for model in one.results] for one in results] == [[3, 3], [4, 4]]
    assert all(one.dry_run for one in results)
    assert results[0].results[1].settings["steps"] == 4


def test_failed_point(capsys: pytest.CaptureFixture[str]) -> None:
    path = write_recipe(Path(), baselines={})
    words = ["sweep", path, "--over=training.learning_rate=1e30,0.01", "--jobs=1"]
    assert call(*words) == 1
    found = capsys.readouterr()
    assert found.err.count("limbeck: error:") == 1
    assert "1 of 2 points failed, first training.learning_rate=1e+30" in found.err
    assert "; the others are finished; the report has all" in found.err
    assert "Traceback" not in found.err
    assert "non-finite" in found.out
    assert "failed" in found.out
    assert Path("runs/spots/sweep/report.html").exists()
    assert [bool(point.error) for point in record().points] == [True, False]


def test_report_of_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    path = write_recipe(Path(), baselines={})
    assert call("sweep", path, "--over=student.width=2,3", "--jobs=1") == 0
    page = Path("runs/spots/sweep/report.html")
    text = page.read_text()
    page.unlink()
    capsys.readouterr()
    assert call("report", "runs/spots/sweep") == 0
    assert page.read_text() == text
    assert "width = 3" in capsys.readouterr().out


BAD: dict[str, tuple[list[str], list[str]]] = {
    "no recipe": ([], ["which recipe? limbeck sweep RECIPE"]),
    "recipe": (["spotz.yaml"], ["spotz.yaml does not exist"]),
    "no axis": (["spots.yaml"], ["what to sweep over?", "--over student.width=4,8,16"]),
    "key": (["spots.yaml", "--over=student.widht=2,3"], ["student.widht", "did you mean width"]),
    "key of the second axis": (
        ["spots.yaml", "--over=student.width=2,3", "--over=trainning.steps=2,3"],
        ["trainning.steps", "did you mean training.steps"],
    ),
    "type": (["spots.yaml", "--over=student.width=2,wide"], ["student.width", "int", "wide"]),
    "value": (["spots.yaml", "--over=training.steps=5,0"], ["training.steps=0", "at least 1, not 0"]),
    "value of a method": (["spots.yaml", "--over=objective.latent_weight=1,-1"], ["at objective.latent_weight=-1: "]),
    "no values": (["spots.yaml", "--over=student.width="], ["student.width", "no values"]),
    "no equals sign": (["spots.yaml", "--over", "student.width"], ["--over student.width", "KEY=VALUE,VALUE"]),
    "no YAML": (["spots.yaml", "--over=student.width=[2,3"], ["student.width=[2,3", "YAML"]),
    "twice": (["spots.yaml", "--over=seed=1,2", "--over=seed=3"], ["names seed twice"]),
    "same value": (["spots.yaml", "--over=seed=1,1"], ["seed", "the value 1 twice"]),
    "tied and alone": (["spots.yaml", "--over=student.width,teacher.width=2,3", "--over=student.width=4"],
                       ["student.width twice"]),
    "swept and overridden": (["spots.yaml", "--over=student.width=2,3", "--student.width=5"],
                             ["--student.width is given", "leave one of them out"]),
    "swept and overridden at length": (["spots.yaml", "--over=student.width=2,3", "--student.init_args.width=5"],
                                       ["--student.width is given"]),
    "an option": (["spots.yaml", "--over=name=a,b"], ["name", "not a setting of the experiment"]),
    "jobs": (["spots.yaml", "--over=seed=1,2", "--jobs=0"], ["--jobs must be at least 1, not 0"]),
    "backend": (["spots.yaml", "--over=seed=1,2", "--backend=abacus"], ["backend", "abacus", "ray"]),
    "devices": (["spots.yaml", "--over=seed=1,2", "--trainer.devices=2"], ["one device", "trainer.devices=1"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_lines(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, told = BAD[name]
    write_recipe(Path())
    assert call("sweep", *words) == 2
    err = capsys.readouterr().err
    assert err.count("limbeck: error:") == 1
    assert "Traceback" not in err
    for text in told:
        assert text in err, err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("axes", "words", "told"),
    [
        (LAYERS, ["--student.width=7"], ["--student.width is given", "the sweep is over width of both",
                                         "--over teacher.width,student.width=VALUE"]),
        ([*LAYERS, {"keys": ["student.width"], "values": [1]}], [], ["student.width twice"]),
        ([{"keys": ["student.widht"], "values": [1, 2]}], [], ["student.widht", "did you mean width"]),
        ([{"keys": ["seed"], "values": []}], [], ["the axis seed", "no values"]),
        ([{"key": ["seed"], "values": [1]}], [], ["sweep", "key", "did you mean keys"]),
        ([{"keys": ["seed"], "values": [1]}], ["--over=seed,student.width=1,2"],
         ["seed, which is on an axis of the recipe", "--over seed=VALUES", "--sweep=[]"]),
    ],
)  # fmt: skip
def test_bad_sweeps_of_recipes(
    axes: list[Any], words: list[str], told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_recipe(Path(), sweep=axes)
    assert call("run", "spots.yaml", *words) == 2
    err = capsys.readouterr().err
    assert err.count("limbeck: error:") == 1
    for text in told:
        assert text in err, err
    assert not Path("runs").exists()


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("sweep", "--help") == 0
    assert "--over KEY=VALUE,VALUE" in capsys.readouterr().out
    assert call("sweep", write_recipe(Path()), "--help") == 0
    out = capsys.readouterr().out
    assert "--backend" in out
    assert "--training.learning_rate" in out


def test_recipes_tell_points(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from limbeck.cli.recipe_files import RecipeFile

    path = write_recipe(Path(), sweep=[*LAYERS, {"keys": ["seed"], "values": [0, 1]}], about={"time": "4 min"})
    monkeypatch.setattr("limbeck.cli.recipes.shipped_recipes", lambda: [RecipeFile("spots", path)])
    assert call("recipes") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "4 min" in out
    assert "6 points" in out


def test_changed_budget_keeps_what_was_there() -> None:
    """Longer training of the students: the teacher stays, old students are kept aside as in any run."""
    path = write_recipe(Path(), baselines={})
    assert call("sweep", path, "--over=student.width=2,3", "--jobs=1") == 0
    teacher = next(Path("runs").glob("*/*/*/teacher/model.safetensors"))
    inode = teacher.stat().st_ino
    steps = STEPS["steps"] + 2
    assert call("sweep", path, "--over=student.width=2,3", f"--training.steps={steps}", "--jobs=1") == 0
    assert teacher.stat().st_ino == inode
    assert len(list(Path("runs").glob("*/*/*/students/surrogate/0.replaced-*"))) == 2


def unfinished(stages: Path) -> Iterator[Path]:
    """Checkpoints of trainings under way; one that has just ended has its model beside the last checkpoint."""
    return (path for path in stages.glob("*/last.ckpt") if not path.with_name("model.safetensors").exists())


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_while_two_processes_train(kind: int) -> None:
    """The processes end with the command; the same command goes on from the last checkpoints to the same weights."""
    # A shell starts what it runs in the background with Ctrl-C ignored, and processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    long = STEPS | {"steps": 800, "checkpoint_every": 10, "log_every": 200}
    write_recipe(Path(), baselines={}, training=long)
    words = [sys.executable, "-m", "limbeck", "sweep", "spots.yaml", "--over=student.width=2,3", "--jobs=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with Path("err").open("w") as err:
        # As in a terminal: the signal of Ctrl-C reaches the whole group.
        process = subprocess.Popen(words, env=environment, stdout=err, stderr=err, start_new_session=True)
        try:
            stages = Path("runs/spots/sweep/stages")
            wait_for(lambda: any(stages.glob("*/model.safetensors")) and any(unfinished(stages)))
            others = set(children(process.pid))
            assert others
            if kind == signal.SIGINT:
                os.killpg(process.pid, kind)
            else:
                process.send_signal(kind)
            status = process.wait(60)
        finally:
            process.kill()
    assert status == (130 if kind == signal.SIGINT else -kind)
    wait_for(lambda: not any(alive(pid) for pid in others))
    text = Path("err").read_text()
    assert "Traceback" not in text
    if kind == signal.SIGINT:
        assert "Run the same command again" in text
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "continued from step" in done.stderr
    assert call("sweep", "spots.yaml", "--over=student.width=2,3", "--jobs=1", "--name=whole") == 0
    assert hashes(Path("runs/spots/sweep")) == hashes(Path("runs/spots/whole"))


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if "resource_tracker" not in Path(f"/proc/{child}/cmdline").read_text()]


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().split()[2] != "Z"
