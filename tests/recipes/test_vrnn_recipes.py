"""The recipes of drawings: their settings, and runs in small on drawings made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from limbeck.cli.main import main
from limbeck.cli.recipe_files import find_recipe
from limbeck.core.coupling import SharedNoise, SharedValues
from limbeck.engine.experiments.recipe import Recipe
from limbeck.metrics import parameter_count
from tests.recipes.test_recipes import load

NAMES = ("vrnn-strokes", "vrnn-iamondb")


METHODS = {
    "vrnn-strokes": ["surrogate-own", "surrogate", "local", "scratch"],
    "vrnn-iamondb": ["surrogate", "local", "scratch"],
}


def recipe(name: str) -> Recipe:
    return load(find_recipe(name).path)[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_methods_on_drawings(name: str) -> None:
    found = recipe(name)
    assert list(found.methods) == METHODS[name]
    assert isinstance(found.methods["surrogate"].objective.coupling, SharedNoise)
    assert isinstance(found.methods["local"].objective.coupling, SharedValues)
    assert not found.methods["scratch"].objective.needs_teacher
    assert found.teacher.steps == found.student.steps == found.data.max_length
    ratio = parameter_count(found.teacher.generative_parameters()) / parameter_count(
        found.student.generative_parameters()
    )
    assert 4.5 < ratio < 5.5  # [U] Fig. 5: five times smaller


def test_sizes_of_the_paper() -> None:
    found = recipe("vrnn-iamondb")
    wide, narrow = found.teacher.config, found.student.config
    assert (wide["width"], wide["features"], wide["latent_size"]) == (1200, 512, 16)
    assert (narrow["width"], narrow["features"], narrow["latent_size"]) == (600, 128, 16)
    for training in (found.teacher_training, found.training):
        assert (training.batch_size, training.learning_rate, training.weight_decay) == (32, 1e-4, 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_reduced_run(name: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 60), ("valid", 10), ("test", 30)):
        lengths = generator.integers(3, 12, count)
        arrays[f"{split}_points"] = np.column_stack([
            generator.integers(-20, 20, (lengths.sum(), 2)), generator.integers(0, 2, lengths.sum())
        ])  # fmt: skip
        arrays[f"{split}_offsets"] = np.cumsum([0, *lengths])
    np.savez(tmp_path / "drawings.npz", **arrays)
    small = [f"--{who}.{what}" for who in ("teacher", "student") for what in ("steps=8", "width=6", "features=4")]
    status = main(["run", name, "--dry-run", f"--output={tmp_path}", f"--data.path={tmp_path / 'drawings.npz'}",
                   "--data.max_length=8", *small])  # fmt: skip
    assert status == 0
    directory = tmp_path / name / "dry-run"
    record = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    assert [result["method"] for result in record["results"]] == ["teacher", *METHODS[name]]
    for result in record["results"]:
        assert all(abs(value) < float("inf") for value in result["values"].values())
        assert (directory / result["directory"] / "samples.png").is_file()
    assert record["results"][0]["values"]["kl_teacher"] == 0.0
