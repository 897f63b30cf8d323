"""Two processes on one machine (DDP): the same experiment, one set of files."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from limbeck.engine.training.checkpoints import read_checkpoint
from limbeck.engine.training.history import History
from tests.tiny import STEPS, call, hashes, recipe, write_recipe

ROOT = Path(__file__).parents[2]
EVALUATION = {
    "class_path": "limbeck.engine.ImageEvaluation",
    "init_args": {"samples": 10, "extractor_steps": 2, "bound_samples": 2, "bound_images": 2, "grid": 4},
}
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]


def command(folder: Path, *words: str, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", *launcher, "limbeck", *words]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same recipe, with a batch norm in teacher and student, in one process and in two."""
    folder = tmp_path_factory.mktemp("both")
    models = {role: {"class_path": "tests.tiny.Tiny", "init_args": {"width": width, "norm": True}} for role, width in
              (("teacher", 8), ("student", 3))}  # fmt: skip
    every = STEPS | {"log_every": 1}
    write_recipe(folder, teacher_training=every, training=every, evaluation=EVALUATION, **models)
    found = {}
    for name, words in (("one", []), ("two", TWO)):
        done = command(folder, "run", "spots.yaml", f"--name={name}", *words)
        assert done.returncode == 0, done.stderr
        found[name] = folder / "runs" / "spots" / name
        (folder / f"{name}.err").write_text(done.stderr)
        (folder / f"{name}.out").write_text(done.stdout)
    return found


@pytest.mark.slow
class TestTwoProcesses:
    def test_one_set_of_files(self, both: dict[str, Path]) -> None:
        names = {name: {str(path.relative_to(run)) for path in run.rglob("*")} for name, run in both.items()}
        assert names["one"] == names["two"]
        assert "metrics.json" in names["two"]

    def test_words_are_printed_once(self, both: dict[str, Path]) -> None:
        folder = both["two"].parents[2]
        err, out = ((folder / f"two.{kind}").read_text() for kind in ("err", "out"))
        assert err.count("teacher: 12 steps") == 1
        assert out.count("Report:") == 1
        assert "Traceback" not in err

    def test_history_has_every_step_once(self, both: dict[str, Path]) -> None:
        for stage in ("teacher", "students/surrogate/0", "students/scratch/0"):
            rows = History.read(both["two"] / stage / "history.csv").rows
            assert [row["step"] for row in rows] == list(range(1, 13))

    def test_first_loss_of_the_distillation_agrees(self, both: dict[str, Path]) -> None:
        """Each process draws its own noise: the mean over both is the same up to Monte-Carlo error."""
        one, two = (History.read(run / "students/surrogate/0/history.csv").rows[0]["total"] for run in both.values())
        assert math.isclose(one, two, rel_tol=0.5)
        assert one != two

    def test_statistics_of_batch_norms_are_those_that_were_evaluated(self, both: dict[str, Path]) -> None:
        record = json.loads((both["two"] / "metrics.json").read_text())
        assert [model["method"] for model in record["results"]] == ["teacher", "surrogate", "scratch"]
        assert all(math.isfinite(model["values"]["fid_data"]) for model in record["results"])


@pytest.mark.slow
def test_loss_on_data_is_that_of_one_process(tmp_path: Path) -> None:
    """Without noise or batch norms, the mean over the processes' rows is the mean over the batch, at every step."""
    training = recipe()["training"] | {"log_every": 1, "optimizer": "sgd", "learning_rate": 1e-3}
    objective = {"class_path": "limbeck.methods.scratch"}
    write_recipe(tmp_path, teacher_training=training, training=training, objective=objective, baselines={},
                 method="data")  # fmt: skip
    for name, words in (("one", []), ("two", TWO)):
        done = command(tmp_path, "run", "spots.yaml", f"--name={name}", *words)
        assert done.returncode == 0, done.stderr
    for stage in ("teacher", "students/data/0"):
        one, two = (History.read(tmp_path / f"runs/spots/{name}/{stage}/history.csv").rows for name in ("one", "two"))
        assert [row["total"] for row in two] == pytest.approx([row["total"] for row in one], rel=1e-5)


_KILL = """
import os, sys
import torch
from limbeck.engine.training.checkpoints import Checkpoints
from tests.tiny import counted
from limbeck.engine.training.module import StudentModule
if not os.path.exists("killed"):
    def die():
        open("killed", "w").close()
        os.kill(os.getpid(), 9)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        StudentModule.training_step = counted(StudentModule.training_step, 12 + 8, die)
from limbeck.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_killed_and_continued(tmp_path: Path) -> None:
    write_recipe(tmp_path, baselines={})
    (tmp_path / "killing.py").write_text(_KILL)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "killing.py", "run", "spots.yaml", *TWO]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == -9
    kept = tmp_path / "runs/spots/default/students/surrogate/0/last.ckpt"
    assert read_checkpoint(kept)["global_step"] == 6
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "continued from step 6" in done.stderr
    assert command(tmp_path, "run", "spots.yaml", "--name=whole", *TWO).returncode == 0
    assert hashes(tmp_path / "runs/spots/default") == hashes(tmp_path / "runs/spots/whole")


def test_mistake_in_all_processes(tmp_path: Path) -> None:
    """All stop together, none hangs, and the message is there once."""
    write_recipe(tmp_path, teacher_training=STEPS | {"learning_rate": 1e30, "steps": 40, "log_every": 1})
    done = command(tmp_path, "run", "spots.yaml", *TWO)
    assert done.returncode == 1
    assert "non-finite" in done.stderr
    assert done.stderr.count("limbeck: error:") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_started_by_a_launcher(tmp_path: Path) -> None:
    """torchrun sets the environment of every process before the first stage."""
    write_recipe(tmp_path, evaluation=EVALUATION, baselines={})
    launcher = ("torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m")
    done = command(tmp_path, "run", "spots.yaml", *TWO, launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert command(tmp_path, "run", "spots.yaml", "--name=plain", *TWO).returncode == 0
    assert hashes(tmp_path / "runs/spots/default") == hashes(tmp_path / "runs/spots/plain")


def test_main_process_alone_can_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One device stays one device in an environment that speaks of several processes."""
    monkeypatch.setattr("limbeck.report.write_report", lambda runs, out: out)
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x",
                        "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
                        "MASTER_PORT": "29612"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert call("run", write_recipe(tmp_path, baselines={}), f"--output={tmp_path}") == 0
    assert not torch.distributed.is_initialized()
