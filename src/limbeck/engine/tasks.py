"""The rows of a recipe as the tasks that its models learn, one after another; usually there is just one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.core.loss import Batch
from limbeck.data import Dataset
from limbeck.engine.recipe import Recipe, rows_of
from limbeck.engine.stages import fingerprint
from limbeck.errors import RecipeError

__all__ = ["Task", "tasks_of"]


@dataclass(frozen=True)
class Task:
    """What one stage of learning has to do with data.

    Attributes:
        rows: the task's own rows of the training split; ``None`` if the recipe names no data.
        all_rows: these and those of all tasks before it.
        key: fingerprint of the rows as the models see them.
        validation: the task's own rows of the validation split.
        all_validation: these and those of all tasks before it.
        earlier: the conditioning input of each task before it, shape (tasks, ...): what a teacher, which has learned
            those, can be asked for. ``None`` if there are none, or the models are not told the task.
    """

    rows: Batch | None
    all_rows: Batch | None
    key: str
    validation: Batch | None = None
    all_validation: Batch | None = None
    earlier: Tensor | None = None


def tasks_of(recipe: Recipe, dataset: Dataset | None) -> list[Task]:
    """The tasks of a recipe, at least one, in the order in which they are learned.

    Args:
        recipe: the experiment; its ``tasks`` names the part of the data that tells to which task a row belongs.
        dataset: its data.

    Raises:
        RecipeError: the data have no such part, it is not one-hot, or a task has no rows.
    """
    data_key = None if dataset is None else dataset.fingerprint
    key = fingerprint(data=data_key, target=recipe.target, condition=recipe.condition)
    if dataset is None:
        return [Task(None, None, key)]
    rows, validation = (
        rows_of(split, recipe.target, recipe.condition) for split in (dataset.train, dataset.validation)
    )
    if recipe.tasks is None:
        return [Task(rows, rows, key, validation, validation)]
    codes = dataset.train.parts.get(recipe.tasks)
    if codes is None:
        known = ", ".join(dataset.train.parts)
        raise RecipeError(f"tasks: the data have no {recipe.tasks!r}; there are {known}")
    if (
        codes.ndim != 2
        or codes.shape[1] < 2
        or not bool(((codes == 0) | (codes == 1)).all() & (codes.sum(1) == 1).all())
    ):
        raise RecipeError(
            f"tasks: {recipe.tasks!r} must be one-hot rows, at least two columns; see limbeck.data.Domains"
        )
    number, validated = codes.argmax(1), dataset.validation.parts[recipe.tasks].argmax(1)
    found = []
    for task in range(codes.shape[1]):
        own = number == task
        if not bool(own.any()):
            raise RecipeError(f"tasks: no training row belongs to task {task + 1} of {codes.shape[1]}")
        told = torch.eye(codes.shape[1], dtype=codes.dtype)[:task]
        earlier = told if task and recipe.condition == recipe.tasks else None
        found.append(
            Task(
                _where(rows, own), _where(rows, number <= task), fingerprint(rows=key, task=task),
                _where(validation, validated == task), _where(validation, validated <= task), earlier,
            )
        )  # fmt: skip
    return found


def _where(rows: Batch, chosen: Tensor) -> Batch:
    return Batch(rows.y[chosen], None if rows.x is None else rows.x[chosen])
