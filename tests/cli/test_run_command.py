"""``limbeck run``: what it leaves behind, and what can be changed on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from limbeck.engine.training.history import History
from tests.tiny import Tiny, built, call, hashes, write_recipe

pytestmark = pytest.mark.usefixtures("quick")


def parts(directory: Path) -> dict[str, Any]:
    return yaml.safe_load((directory / "recipe.yaml").read_text())


class TestRun:
    def test_a_run_leaves_all_that_it_made(self, dry: Path) -> None:
        methods = ["surrogate-l1", "surrogate", "local", "scratch"]
        for model in ("teacher", *(f"students/{method}/0" for method in methods)):
            names = {path.name for path in (dry / model).iterdir()}
            encoders = {"reconstructions.png"} if model in ("teacher", "students/scratch/0") else set()
            assert names == encoders | {
                "config.json", "model.safetensors", "history.csv", "samples.png", "training.json", "evaluation.json"
            }, model  # fmt: skip
            assert [row["step"] for row in History.read(dry / model / "history.csv").rows] == [1, 2, 3, 4]
        assert "<html" in (dry / "report.html").read_text()
        record = json.loads((dry / "metrics.json").read_text())
        assert record["dry_run"] is True
        assert record["command"] == "limbeck run ladder-vae-digits --dry-run"
        assert [model["method"] for model in record["results"]] == ["teacher", *methods]
        assert all("fid_data" in model["values"] for model in record["results"])
        likelihood = {model["method"] for model in record["results"] if "bound" in model["values"]}
        assert likelihood == {"teacher", "scratch"}
        assert (dry.parents[1] / "cache" / "extractors").is_dir()

    def test_its_recipe_runs_again_to_the_same_weights(self, dry: Path, no_page: None) -> None:
        assert call("run", dry / "recipe.yaml", "--dry-run", "--output=again") == 0
        assert hashes(Path("again/recipe/dry-run")) == hashes(dry)

    def test_every_part_of_a_recipe_can_be_overridden(self, no_page: None) -> None:
        path = write_recipe(Path(), baselines={"local": {"objective": {"class_path": "limbeck.methods.local"}}})
        Path("more.yaml").write_text("training: {batch_size: 6}\nteacher_training: {steps: 2}\n")
        status = call(
            "run", path, "--config=more.yaml", "--seed=3", "--seeds=2", "--student.width=5",
            "--objective.latent_weight=1", "--baselines.local.learning_rate=0.1", "--training.steps=3", "--name=mine",
            "--output=elsewhere",
        )  # fmt: skip
        assert status == 0
        run = Path("elsewhere/spots/mine")
        found = parts(run)
        assert found["seed"] == 3
        assert found["student"]["init_args"]["width"] == 5
        assert found["teacher"]["init_args"]["width"] == 8
        assert found["objective"]["init_args"]["latent_weight"] == 1.0
        assert found["baselines"]["local"]["learning_rate"] == 0.1
        assert (found["training"]["steps"], found["training"]["batch_size"]) == (3, 6)
        assert found["teacher_training"]["steps"] == 2
        students = {path.parent.relative_to(run / "students") for path in run.glob("students/*/*/model.safetensors")}
        assert {str(path) for path in students} == {"surrogate/3", "surrogate/4", "local/3", "local/4"}
        assert Tiny.from_pretrained(run / "students/local/4").config["width"] == 5
        rates = {
            model: History.read(run / f"students/{model}/3/history.csv").rows[-1] for model in ("surrogate", "local")
        }
        assert rates["surrogate"]["learning_rate"] == 0.01
        assert rates["local"]["learning_rate"] == 0.1

    def test_teacher_and_students_of_two_seeds_differ(self, no_page: None) -> None:
        assert call("run", write_recipe(Path(), baselines={}), "--seeds=2") == 0
        found = hashes(Path("runs/spots/default"))
        assert len(set(found.values())) == 3

    def test_a_later_seed_is_the_same_alone(self, no_page: None) -> None:
        """Students depend on their own seed, and the teacher on the recipe's."""
        path = write_recipe(Path(), baselines={}, teacher_from="teacher")
        built(width=8).save_pretrained("teacher")
        assert call("run", path, "--seeds=2", "--name=both") == 0
        assert call("run", path, "--seed=1", "--name=alone") == 0
        both, alone = hashes(Path("runs/spots/both")), hashes(Path("runs/spots/alone"))
        assert alone == {name: value for name, value in both.items() if "/1/" in name}

    def test_a_teacher_that_exists_is_used_and_left_alone(self, no_page: None) -> None:
        teacher = built(width=8)
        teacher.save_pretrained("teacher")
        before = hashes(Path("teacher"))
        assert call("run", write_recipe(Path(), teacher_from="teacher")) == 0
        assert hashes(Path("teacher")) == before
        assert not Path("runs/spots/default/teacher/model.safetensors").exists()
        assert json.loads(Path("runs/spots/default/metrics.json").read_text())["results"][0]["seed"] is None

    def test_double_precision_reaches_every_weight(self, no_page: None) -> None:
        evaluation = {
            "class_path": "limbeck.engine.ImageEvaluation",
            "init_args": {"samples": 10, "extractor_steps": 2},
        }
        path = write_recipe(Path(), evaluation=evaluation)
        assert call("run", path, "--trainer.precision=64-true") == 0
        for name in ("teacher", "students/surrogate/0", "students/scratch/0"):
            weights = load_file(f"runs/spots/default/{name}/model.safetensors")
            assert {tensor.dtype for tensor in weights.values()} == {torch.float64}

    def test_a_learned_divergence_is_kept(self, no_page: None) -> None:
        objective = {"class_path": "tests.tiny.learned", "init_args": {"weight": 0.5}}
        assert call("run", write_recipe(Path(), objective=objective, baselines={})) == 0
        found = load_file("runs/spots/default/students/learned/0/objective.safetensors")
        assert [tensor.item() for tensor in found.values()] != [0.0]

    def test_images_of_bytes_give_the_weights_of_the_same_floats(self, no_page: None) -> None:
        path = write_recipe(Path(), data={"class_path": "tests.tiny.Spots", "init_args": {"integers": True}})
        assert call("run", path, "--training.ema=0.9") == 0
        Path("float").mkdir()
        assert call("run", write_recipe(Path("float")), "--training.ema=0.9", "--name=float") == 0
        weights = [Path(f"runs/spots/{name}/students/scratch/0/model.safetensors") for name in ("default", "float")]
        assert weights[0].read_bytes() == weights[1].read_bytes()


USERS = """
import torch
from torch import nn
from torch.distributions import Normal
from limbeck import DGM, Batch, Loss


class Mine(DGM):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 64))

    def generate(self, sites, x=None):
        z = sites.latent("z", sites.standard_normal(2))
        sites.target("y", Normal(self.body(z).view(-1, 1, 8, 8), 0.5))

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        return Loss.of({"y": (self.body[2].bias.view(1, 8, 8) - batch.y).pow(2).sum() / len(batch)})
"""


def test_a_model_of_ones_own_is_found_in_the_working_directory(tmp_path: Path) -> None:
    """Through the installed command, which unlike ``python -m`` does not look into the working directory by itself."""
    (tmp_path / "my_models.py").write_text(USERS)
    models = {role: {"class_path": "my_models.Mine", "init_args": {"width": width}} for role, width in
              (("teacher", 5), ("student", 2))}  # fmt: skip
    data = {"class_path": "limbeck.data.Digits", "init_args": {"limit": 20}}
    settings = {"samples": 10, "extractor_steps": 2, "bound_images": 2, "grid": 4}
    evaluation = {"class_path": "limbeck.engine.ImageEvaluation", "init_args": settings}
    write_recipe(tmp_path, data=data, baselines={}, evaluation=evaluation, **models)
    script = "import sys; sys.path = [p for p in sys.path if p not in ('', sys.argv[1])]; del sys.argv[1]; " \
        "from limbeck.cli.main import main; " \
        "sys.exit(main(sys.argv[1:] ) or main(['sample', 'runs/spots/default/students/surrogate/0', '--n=2', " \
        "'--import=my_models']))"  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", script, str(tmp_path), "run", "spots.yaml"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "samples.png").size[0] > 0
