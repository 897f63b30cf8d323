"""A finished model that others learn from."""

from __future__ import annotations

from dataclasses import dataclass

from limbeck.core.graph import DGM
from limbeck.engine.experiments.tasks import Task
from limbeck.engine.settings.batches import Batches
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.teachers.prepare import prepare

__all__ = ["Teacher", "as_teacher"]


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
