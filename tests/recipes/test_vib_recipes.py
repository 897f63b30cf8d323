"""The recipes of [U] Table 2: six rows that differ in what the table says they differ in, and nothing else."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from PIL import Image

from limbeck.cli.main import main
from limbeck.cli.recipe_files import find_recipe
from limbeck.core.coupling import IndependentNoise, SharedNoise, SharedValues
from tests.recipes.test_recipes import generative, load

SIZES = {"vib-digits": (8, 64), "vib-fashion-mnist": (28, 256), "vib-svhn": (32, 256)}
ROWS = ["our-vib", "vanilla", "dropout", "vib", "mc-vib", "local-vib"]
PUBLISHED = {"vib-fashion-mnist": (2_380_810, 400_906, 46_000), "vib-svhn": (2_626_570, 462_346, 57_000)}


@pytest.mark.parametrize("name", SIZES)
def test_the_six_rows(name: str) -> None:
    recipe, _ = load(find_recipe(name).path)
    assert list(recipe.methods) == ROWS
    assert (recipe.target, recipe.condition, recipe.seeds) == ("labels", "images", 5)
    couplings = {"our-vib": SharedNoise, "local-vib": SharedValues, "mc-vib": IndependentNoise}
    for method in ROWS:
        objective = recipe.methods[method].objective
        training = recipe.training_of(method)
        student = recipe.student_of(method).config
        assert objective.needs_teacher == (method in couplings)
        assert objective.train_weight == pytest.approx(1.0 - (objective.weight if method in couplings else 0.0))
        assert dataclasses.replace(training, learning_rate=recipe.training.learning_rate) == recipe.training
        assert (student["image_size"], student["hidden"]) == SIZES[name]
        assert student["beta"] == 1e-3
        assert student["stochastic"] == (method not in ("dropout", "vanilla"))
        assert (student["dropout"] > 0) == (method == "dropout")
        if method in couplings:
            assert isinstance(objective.coupling, couplings[method])
            target = next(match for match in objective.matches if match.kind.value == "target")
            assert target.divergence.keywords == {"temperature": 2.0}
        # The same budget of parameters, up to the softmax of the rows without noise.
        assert generative(recipe.student_of(method)) == pytest.approx(generative(recipe.student), rel=0.03)


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_of_the_paper(name: str) -> None:
    teacher, student, steps = PUBLISHED[name]
    recipe, _ = load(find_recipe(name).path)
    assert (generative(recipe.teacher), generative(recipe.student)) == (teacher, student)
    assert recipe.teacher.config["hidden"] == 1024
    for training in (recipe.teacher_training, recipe.training):
        assert (training.steps, training.batch_size, training.weight_decay) == (steps, 256, 1e-4)
        assert training.optimizer == "adam"
    assert recipe.data.channels == 1
    assert recipe.data.size == recipe.student.config["image_size"]


@pytest.fixture
def photographs(tmp_path):
    """A folder of coloured images in ten classes, as SVHN would be."""
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "test"):
        for label in range(10):
            folder = tmp_path / "photographs" / split / str(label)
            folder.mkdir(parents=True)
            for row in range(4):
                pixels = torch.randint(0, 256, (32, 32, 3), generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(folder / f"{row}.png")
    return tmp_path / "photographs"


@pytest.mark.parametrize("name", ["vib-digits", "vib-svhn"])
def test_reduced_run(name: str, photographs, tmp_path, capsys) -> None:
    words = [] if name == "vib-digits" else [f"--data.path={photographs}", "--data.label_column=null"]
    batches = ["--teacher_training.batch_size=8", "--training.batch_size=8"]
    status = main(["run", name, "--dry-run", f"--output={tmp_path}", *words, *batches])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    directory = tmp_path / name / "dry-run"
    record = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    assert [result["method"] for result in record["results"]] == ["teacher", *ROWS]
    for result in record["results"]:
        values = result["values"]
        # No objective here learns anything beside the student.
        assert set(values) == {measure["key"] for measure in record["measures"]} - {"parameters_objective"}
        assert all(abs(value) < float("inf") for value in values.values())
        with Image.open(directory / result["directory"] / "samples.png") as image:
            assert min(image.size) > 300
    assert (directory / "report.html").stat().st_size > 10_000
