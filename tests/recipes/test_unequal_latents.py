"""The recipe of students with other latents: it has the rows that it promises, and runs in a reduced form."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from limbeck.cli.main import main
from limbeck.cli.recipe_files import find_recipe
from limbeck.core.coupling.noise_layout import NoiseLayout
from limbeck.engine.experiments.recipe import Recipe
from tests.recipes.test_recipes import generative, load

NAME = "unequal-latents-digits"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load(find_recipe(NAME).path)[0]


def test_students_of_one_to_four_levels_about_thirty_times_smaller(recipe: Recipe) -> None:
    students = {method: recipe.student_of(method) for method in recipe.methods}
    assert {student.levels for student in students.values()} == {1, 2, 3, 4}
    assert recipe.teacher.levels == 4
    for student in students.values():
        assert 25 < generative(recipe.teacher) / generative(student) < 40


def test_the_two_level_student_has_a_place_for_all_noise_and_the_others_are_named_few(recipe: Recipe) -> None:
    numbers = NoiseLayout.of(recipe.teacher).size
    assert numbers == 200
    for method in recipe.methods:
        size = NoiseLayout.of(recipe.student_of(method)).size
        assert (size < numbers / 2) == method.startswith("few")
        assert size >= numbers or method.startswith("few")


def test_reduced_run(tmp_path: Path, capsys: pytest.CaptureFixture, recipe: Recipe) -> None:
    status = main(["run", NAME, "--dry-run", f"--output={tmp_path}", "--teacher.width=8"])
    assert status == 0, capsys.readouterr().err
    directory = tmp_path / NAME / "dry-run"
    record = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    assert [result["method"] for result in record["results"]] == ["teacher", *recipe.methods]
    for result in record["results"]:
        assert all(math.isfinite(value) for value in result["values"].values())
        has_map = (directory / result["directory"] / "objective.safetensors").exists()
        assert has_map == (result["method"] == "few-learned")
