"""A finished model that others learn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from limbeck.core.graph import DGM
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.experiments.tasks import Task
from limbeck.engine.settings.batches import Batches
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.stage import Stage
from limbeck.engine.teachers.prepare import prepare

__all__ = ["Teacher", "as_teacher", "given_stage", "loaded_notes"]

_LONGEST = 60  # characters of a setting in a note


@dataclass(frozen=True)
class Teacher:
    """A finished model that others learn from.

    Attributes:
        model: as it was trained.
        prepared: the same model, prepared for fast inference.
        key: its fingerprint.
    """

    model: DGM
    prepared: DGM
    key: str


def as_teacher(model: DGM, task: Task) -> Teacher:
    """Prepare a finished model for those that learn from it.

    Args:
        model: the finished model; it is not changed.
        task: what it learned.
    """
    example = None if task.rows is None else Batches(task.rows, 2, 0)(0).x
    return Teacher(model, prepare(model, example), model_key(model))


def given_stage(folder: Path, teacher: DGM, *, elsewhere: bool) -> Stage:
    """The record that a run keeps of a teacher which it did not train.

    Args:
        folder: the teacher's folder in the run directory.
        teacher: the teacher.
        elsewhere: whether it was loaded from another directory.
    """
    return Stage(folder, "training", fingerprint(given=model_key(teacher), elsewhere=elsewhere))


def loaded_notes(recipe: Recipe, model: DGM) -> list[str]:
    """What a reader should know of a teacher that was loaded: its own settings hold, and not those of the recipe.

    Args:
        recipe: the experiment.
        model: its teacher.

    Returns:
        One sentence; none if the teacher was not loaded.
    """
    if recipe.teacher_from is None:
        return []
    said = recipe.teacher.config
    own = [f"{name}={value!r}" for name, value in model.config.items() if repr(said.get(name)) != repr(value)]
    short = [text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..." for text in own]
    differs = f", which differ from the recipe's in {', '.join(short)}" if short else ""
    return [
        f"The teacher was loaded from {recipe.teacher_from} with its own weights and settings{differs}; the recipe's "
        "teacher settings and teacher_training had no effect."
    ]
