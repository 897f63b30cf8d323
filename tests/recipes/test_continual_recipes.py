"""The recipes of continual learning: what they compare, the paper's settings, and runs in a reduced form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from limbeck.cli.main import main
from limbeck.cli.recipe_files import find_recipe
from limbeck.core.coupling import SharedNoise, SharedValues, TeacherSamples, WithPosterior
from limbeck.core.trace import Kind
from limbeck.data import CelebA, Digits, Domains
from limbeck.engine import ContinualEvaluation
from tests.data.images.test_celeba import publish
from tests.recipes.test_recipes import load

NAMES = ("continual-digits", "continual-fashion", "continual-faces", "continual-celeba")
METHODS = ["continual", "local", "replay", "lgm", "fine-tuning", "joint"]
THREE = ["--data.groups=[[0,1,2],[3,4,5],[6,7,8,9]]", "--teacher.domains=3", "--student.domains=3"]


@pytest.mark.parametrize("name", NAMES)
def test_the_six_methods(name: str) -> None:
    recipe, _ = load(find_recipe(name).path)
    assert list(recipe.methods) == METHODS
    assert (recipe.condition, recipe.tasks) == ("domains", "domains")
    assert isinstance(recipe.data, Domains)
    assert isinstance(recipe.evaluation, ContinualEvaluation)
    objectives = {method: baseline.objective for method, baseline in recipe.methods.items()}
    couplings = {"continual": SharedNoise, "local": SharedValues, "replay": TeacherSamples, "lgm": WithPosterior}
    for method, kind in couplings.items():
        assert isinstance(objectives[method].coupling, kind)
        assert objectives[method].train_weight == 0.5  # [U] Eq. 16: one half each
    weights = {match.kind: match.weight for match in objectives["continual"].matches}
    assert weights == {Kind.TARGET: 1.0, Kind.LATENT: 0.1}
    for method in ("fine-tuning", "joint"):
        assert not objectives[method].needs_teacher
    assert [method for method, baseline in recipe.methods.items() if baseline.rows == "all"] == ["joint"]


@pytest.mark.parametrize("name", NAMES)
def test_the_student_is_the_teachers_architecture_with_batch_statistics(name: str) -> None:
    recipe, _ = load(find_recipe(name).path)
    old, new = dict(recipe.teacher.config), dict(recipe.student.config)
    assert (old.pop("warm_up"), new.pop("warm_up")) == (0.5, 0.0)  # what starts from trained weights needs none
    assert old == new
    assert old["batch_statistics"] is True
    assert old["domains"] == len(recipe.data.groups) == 2
    source = recipe.data.source
    assert old["image_size"] == source.size
    assert old["image_channels"] == getattr(source, "channels", 1)
    assert {recipe.start_of(method) for method in recipe.methods} == {"teacher"}


def test_celeba_is_the_papers_experiment() -> None:
    recipe, _ = load(find_recipe("continual-celeba").path)
    source = recipe.data.source
    assert isinstance(source, CelebA)
    assert (source.attribute, source.size, source.channels) == ("Eyeglasses", 32, 3)
    config = recipe.teacher.config
    assert (config["levels"], config["width"], config["latent_channels"]) == (5, 64, 16)
    for training in (recipe.teacher_training, recipe.training):
        assert (training.steps, training.learning_rate, training.weight_decay) == (63_000, 1e-4, 1e-4)
    other, _ = load(find_recipe("continual-celeba").path, "--data.source.attribute=No_Beard", "--data.groups=[[1],[0]]")
    assert (other.data.source.attribute, other.data.groups) == ("No_Beard", [[1], [0]])


def test_more_than_two_tasks_by_override() -> None:
    recipe, _ = load(find_recipe("continual-digits").path, *THREE)
    assert isinstance(recipe.data.source, Digits)
    assert recipe.data.load().domain_names == ("0 1 2", "3 4 5", "6 7 8 9")


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature network without training: means over a grid of 4 cells."""
    path = tmp_path_factory.mktemp("extractor") / "means.pt"
    torch.jit.save(torch.jit.script(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())), path)
    return path


def record(directory: Path) -> dict[str, dict[str, float]]:
    found = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    return {result["method"]: result["values"] for result in found["results"]}


def test_a_reduced_run_of_three_tasks(extractor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--teacher.width=4", "--student.width=4", f"--evaluation.extractor={extractor}", "--evaluation.grid=8"]
    status = main(["run", "continual-digits", "--dry-run", f"--output={tmp_path}", *THREE, *small])
    assert status == 0, capsys.readouterr().err
    directory = tmp_path / "continual-digits" / "dry-run"
    found = record(directory)
    assert list(found) == ["teacher", *METHODS]
    for method in METHODS:
        values = found[method]
        assert {"fid_old", "fid_old_increase", "fid_new", "fid_0", "fid_1", "fid_2", "bound_old"} <= set(values)
        assert values["fid_old"] == pytest.approx((values["fid_0"] + values["fid_1"]) / 2)
        assert values["fid_new"] == values["fid_2"]
        assert all(abs(value) < float("inf") for value in values.values())
        with Image.open(directory / "students" / method / "0" / "samples.png") as picture:
            assert picture.height < picture.width  # three rows of eight
    assert {"fid_old", "fid_0", "bound_old"} <= set(found["teacher"]) < {*found["continual"]}
    assert found["fine-tuning"]["fid_0"] != found["teacher"]["fid_0"]


def test_a_reduced_run_on_faces_in_the_published_layout(
    extractor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = publish(tmp_path / "faces", copies=4)
    small = ["--teacher.width=4", "--student.width=4", "--teacher.latent_channels=2", "--student.latent_channels=2",
             "--teacher_training.batch_size=8", "--training.batch_size=8", f"--evaluation.extractor={extractor}",
             "--data.source.attribute=Male", f"--data.source.path={folder}"]  # fmt: skip
    status = main(["run", "continual-celeba", "--dry-run", f"--output={tmp_path}", *small])
    assert status == 0, capsys.readouterr().err
    found = record(tmp_path / "continual-celeba" / "dry-run")
    assert list(found) == ["teacher", *METHODS]
    assert all(abs(value) < float("inf") for values in found.values() for value in values.values())
