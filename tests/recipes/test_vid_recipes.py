"""The recipes of [V]: its rows, its settings, and each of them in small on made-up images."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.cli.main import main
from limbeck.cli.recipe_files import find_recipe
from limbeck.engine.experiments.experiment import Experiment
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.stages.progress import Progress
from limbeck.models import NetworkClassifier
from tests.recipes.test_recipes import load

PAPER = {"vid-i", "kd", "fitnet", "at", "nst", "kd+at", "kd+vid", "scratch"}  # Tables 1 and 2
TRANSFER = {"vid-i", "vid-lp", "lwf", "fitnet", "at", "nst", "lwf+fitnet", "vid-lp+vid-i", "finetune", "scratch"}  # 3
TO_MLP = {"vid-i", "kd", "fitnet", "scratch"}  # Table 4
ROWS = {
    "vid-cifar10": PAPER | {"crd", "dkd"},
    "vid-cifar100": PAPER,
    "vid-mit67": TRANSFER,
    "vid-cub200": TRANSFER,
    "vid-cifar10-mlp": TO_MLP,
    "vid-cifar10-16-mlp": TO_MLP,
    "vid-svhn-mnist": {"vid-i", "vid-lp", "kd", "fitnet", "at", "nst", "finetune", "scratch"},
    "vid-resnet164": {"vid-i", "kd", "fitnet", "scratch"},
    "vid-digits": PAPER | {"crd", "dkd"},
    "vid-digits-mlp": TO_MLP | {"kd+vid"},
    "vid-fashion-mnist": PAPER | {"dkd"},
    "vid-mnist-fashion": {"vid-i", "vid-lp", "lwf", "fitnet", "at", "nst", "finetune", "scratch"},
}
STATED = ["vid-cifar10", "vid-cifar100", "vid-mit67", "vid-cub200", "vid-cifar10-mlp", "vid-resnet164"]
GRIDS = {"kd": [1, 10], "fitnet": [10, 100], "at": [100, 1000], "nst": [5, 50], "vid-i": [10, 100], "vid-lp": [10, 100]}


@functools.cache
def recipe_of(name: str) -> Recipe:
    return load(find_recipe(name).path)[0]


@pytest.mark.parametrize("name", ROWS)
def test_the_rows_of_the_table(name: str) -> None:
    recipe = recipe_of(name)
    assert set(recipe.methods) == ROWS[name]
    assert recipe.method == "vid-i"
    assert (recipe.target, recipe.condition) == ("labels", "images")
    assert recipe.seeds >= 3
    for method, baseline in recipe.methods.items():
        alone = method in ("scratch", "finetune")
        assert baseline.objective.needs_teacher != alone
        assert recipe.start_of(method) == ("source" if method == "finetune" else "random")
        # The labels are learned beside what is matched, by every method.
        assert alone or any(match.name == "task" for match in baseline.objective.matches)
        wanted = set() if alone else set(method.replace("vid-i", "vid").replace("vid-lp", "lp").split("+"))
        found = {match.name.replace("vid-lp", "lp") for match in baseline.objective.matches} - {"task"}
        assert found == wanted


@pytest.mark.parametrize("name", [*STATED, "vid-svhn-mnist"])
def test_weights_are_chosen_from_the_papers_grids(name: str) -> None:
    """[V] App. A.3: lambda_1 from {0.1, 1} and the others' scales from the grids that it states."""
    recipe = recipe_of(name)
    assert recipe.choice_share == 0.2
    for method, baseline in recipe.methods.items():
        if method in ("scratch", "finetune"):
            assert not baseline.choices
            continue
        others = {pattern: values for pattern, values in baseline.choices.items() if pattern != "y|data"}
        assert baseline.choices["y|data"] == [0.1, 1]
        if method in GRIDS:
            assert list(others.values()) == [GRIDS[method]]


@pytest.mark.parametrize("name", STATED)
def test_settings_of_the_paper(name: str) -> None:
    """[V] App. A.3."""
    recipe = recipe_of(name)
    transfer, mlp = recipe.teacher_from is not None, name == "vid-cifar10-mlp"
    rate = 0.05 if transfer else 1e-3 if mlp else 0.1
    fallen = (0.6, 0.8) if transfer else (500 / 700, 600 / 700) if mlp else (0.3, 0.6, 0.8)
    for training in (recipe.training, None if transfer or mlp else recipe.teacher_training):
        if training is None:
            continue
        assert (training.optimizer, training.batch_size, training.learning_rate) == ("sgd", 128, rate)
        assert (training.weight_decay, training.gradient_clip) == (5e-4, 100)
        assert (training.schedule, training.decay) == ("steps", 0.2)
        assert training.milestones == pytest.approx(fallen, abs=1e-3)
    epochs, images = (250, 5360 if name == "vid-mit67" else 5994) if transfer else (700 if mlp else 200, 50_000)
    assert recipe.training.steps == pytest.approx(epochs * images / 128, abs=1)
    temperatures = [
        match.divergence.keywords["temperature"]
        for baseline in recipe.methods.values()
        for match in baseline.objective.matches
        if match.name == "kd"
    ]
    assert set(temperatures) <= {4.0}


def test_networks_of_the_paper() -> None:
    """[V] App. A.1; parameters as published for WRN-40-2 and WRN-16-1 with ten classes."""
    recipe = recipe_of("vid-cifar10")
    sizes = [sum(p.numel() for p in model.generative_parameters()) for model in (recipe.teacher, recipe.student)]
    assert sizes == [2_243_546, 175_066]
    grid = {axis.label: axis.values for axis in recipe_of("vid-cifar100").sweep}
    assert grid == {"depth": [40, 16], "width": [2, 1]}
    assert recipe_of("vid-cifar10").sweep[0].values == [None, 1000, 500, 100]
    assert recipe_of("vid-cifar10-mlp").sweep[0].values == [4096, 2048, 1024]
    for name, values in (("vid-mit67", [None, 50, 25, 10]), ("vid-cub200", [None, 20, 10, 5])):
        transfer = recipe_of(name)
        assert transfer.sweep[0].values == values
        vid = next(match.divergence for match in transfer.objective.matches if match.name == "vid")
        assert (vid.layers, vid.hidden) == (2, 0.5)
        assert (
            list(transfer.teacher.features.values()) == ["layer3", "layer4"] == list(transfer.student.features.values())
        )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of images in ten classes and in two."""
    random, found = np.random.default_rng(0), {}
    for name, classes in (("ten", 10), ("two", 2)):
        root = found[name] = tmp_path_factory.mktemp(name)
        for split, rows in (("train", 10), ("test", 2)):
            for label in range(classes):
                folder = root / split / f"{label:02d}"
                folder.mkdir(parents=True)
                for row in range(rows):
                    pixels = random.integers(0, 128, (32, 32, 3)) + 12 * label
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{row}.png")
    return found


WIDE = ["--teacher.settings.depth=10", "--teacher.settings.width=1", "--student.settings.depth=10",
        "--student.settings.width=1"]  # fmt: skip
TWO = ["--student.settings.classes=2", "--data.validation=2", "--data.label_column=null"]
SCENES = ["two", "--data.size=32", *TWO, "--teacher.settings.depth=18", "--teacher.settings.classes=13"]
OTHER = ["--student.network=ConvNet", '--student.settings={"widths": [4, 6], "classes": 2}',
         '--student.features={"h[3]": "blocks.0", "h[4]": "blocks.1"}']  # fmt: skip
REDUCED = {
    "vid-digits": [],
    "vid-digits-mlp": [],
    "vid-cifar10": ["ten", *WIDE],
    "vid-cifar100": ["two", *WIDE, *TWO, "--teacher.settings.classes=2"],
    "vid-resnet164": ["ten", "--teacher.settings.depth=20"],
    "vid-fashion-mnist": ["ten", *WIDE],
    "vid-mit67": SCENES,
    "vid-cub200": [*SCENES, *OTHER],
    "vid-svhn-mnist": ["ten"],
    "vid-mnist-fashion": ["ten", "--data.size=28"],
}
SOME = {  # the largest networks, and rows that another recipe has, too
    "vid-mit67": ["vid-lp+vid-i", "finetune"],
    "vid-cub200": ["lwf+fitnet", "scratch"],
    "vid-fashion-mnist": ["kd+vid", "scratch"],
    "vid-cifar100": ["kd+at", "scratch"],
}


def without_choices(recipe: Recipe, kept: list[str] | None) -> Recipe:
    """Each candidate is one more training, and all of them go the same way."""
    baselines = {
        name: dataclasses.replace(baseline, choices={})
        for name, baseline in recipe.baselines.items()
        if kept is None or name in kept
    }
    return dataclasses.replace(recipe, choices={}, baselines=baselines)


@pytest.mark.parametrize("name", REDUCED)
def test_reduced_run(name: str, images: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, *words = REDUCED[name] or [""]
    words += [f"--data.path={images[data]}"] if data else []
    if recipe_of(name).teacher_data is not None:
        words += [f"--teacher_data.path={images['ten']}"]
    recipe, resolved = load(find_recipe(name).path, "--evaluation.timing=0.001", *words)
    recipe = without_choices(recipe.dry(), SOME.get(name))
    if recipe.teacher_from is not None:  # of ImageNet, in small: thirteen classes
        torch.manual_seed(0)
        given = NetworkClassifier("ResNet", {"depth": 18, "classes": 13}, recipe.teacher.features, normalize=True)
        given.standardize([0.45] * 3, [0.22] * 3)
        for depth in (34, 18):
            given.save_pretrained(f"imagenet-resnet{depth}")
    results = Experiment(
        recipe, resolved=resolved, name=name, directory=tmp_path / name, cache=tmp_path / "cache", command="",
        progress=Progress(), dry_run=True,
    ).run()  # fmt: skip
    teacher, *students = results.results
    assert [result.method for result in students] == list(recipe.methods)
    measured = {"accuracy", "nll", "ece"}
    assert (measured <= set(teacher.values)) == (recipe.teacher_from is None)
    for result in students:
        assert measured <= set(result.values)
        assert all(abs(value) < float("inf") for value in result.values.values())
        learned = tmp_path / name / result.directory / "objective.safetensors"
        assert learned.is_file() == any(kind in result.method for kind in ("vid", "fitnet", "lwf", "crd"))
        assert ("parameters_objective" in result.values) == learned.is_file()
    assert results.teacher_elsewhere == (recipe.teacher_data is not None)
    assert recipe.per_class in (2, None)


def test_on_the_command_line_with_its_choices(
    images: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each method's weights are chosen before its students learn."""
    words = [*WIDE[:2], f"--data.path={images['ten']}", "--student.settings.hidden=8", "--sweep=[]"]
    status = main(["run", "vid-cifar10-mlp", "--dry-run", f"--output={tmp_path}", "--evaluation.timing=0.001", *words])
    assert status == 0, capsys.readouterr().err
    folder = tmp_path / "vid-cifar10-mlp" / "dry-run"
    record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert [result["method"] for result in record["results"]] == ["teacher", "vid-i", "kd", "fitnet", "scratch"]
    assert any("chosen" in note for note in record["notes"])
