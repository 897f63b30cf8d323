"""The rows of a recipe as tasks that its models learn one after another; usually there is one task."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.core.loss import Batch
from limbeck.data import Dataset, split_rows, take_per_class
from limbeck.engine.experiments.recipe import Recipe, rows_of
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.seeding import derive_seed
from limbeck.errors import DataError, RecipeError

__all__ = ["Task", "cut", "cut_task", "few_rows", "tasks_of"]


@dataclass(frozen=True)
class Task:
    """The rows that a model learns in one training.

    Attributes:
        rows: the task's own rows of the training split; ``None`` if the recipe names no data.
        all_rows: the training rows of this task and of all tasks before it.
        key: fingerprint of the rows as the models see them.
        validation: the task's own rows of the validation split.
        all_validation: the validation rows of this task and of all tasks before it.
        earlier: the conditioning input of each task before this one, shape (tasks, ...); a teacher has learned these
            and can be run on them. ``None`` if there are no earlier tasks, or the models are not conditioned on the
            task.
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
        recipe: the experiment; its ``tasks`` names the part of the data that holds the task of each row.
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
        earlier_codes = torch.eye(codes.shape[1], dtype=codes.dtype)[:task]
        earlier = earlier_codes if task and recipe.condition == recipe.tasks else None
        found.append(
            Task(
                _at(rows, own), _at(rows, number <= task), fingerprint(rows=key, task=task),
                _at(validation, validated == task), _at(validation, validated <= task), earlier,
            )
        )  # fmt: skip
    return found


def few_rows(task: Task, dataset: Dataset | None, per_class: int | None, seed: int) -> Task:
    """A task with a given number of training rows of each class, for one student; all validation rows stay.

    Args:
        task: the only task of a recipe.
        dataset: its data, with ``labels``.
        per_class: rows of each class; ``None`` leaves the task as it is.
        seed: the student's; the choice is the same for all methods of one seed, and differs between seeds.

    Raises:
        RecipeError: the data have no labels.
        DataError: a class has fewer rows.
    """
    if per_class is None or dataset is None or task.rows is None:
        return task
    labels = dataset.train.parts.get("labels")
    if labels is None:
        raise RecipeError(f"per_class: the data have no labels; there are {', '.join(dataset.train.parts)}")
    names = getattr(dataset, "classes", ())
    try:
        chosen = take_per_class(labels, per_class, derive_seed(seed, "rows of each class"), names)
    except DataError as error:
        raise DataError(f"per_class: {error}") from None
    rows = _at(task.rows, chosen)
    return dataclasses.replace(task, rows=rows, all_rows=rows)


def cut(rows: Batch, share: float, seed: int) -> tuple[Batch, Batch]:
    """Hold out a share of rows; where ``y`` are labels, both parts have the same proportions of classes.

    Args:
        rows: what students may see.
        share: of the rows to hold out, in (0, 1).
        seed: determines which rows are held out.

    Returns:
        The rest, and the rows that are held out.

    Raises:
        DataError: one of the two would be empty.
    """
    labels = rows.y if rows.y.ndim == 1 and not rows.y.is_floating_point() else torch.zeros(len(rows), dtype=torch.long)
    parts = split_rows(labels, share, derive_seed(seed, "choices") % 2**32)
    rest, held_out = (_at(rows, part) for part in parts)
    return rest, held_out


def cut_task(task: Task, recipe: Recipe) -> tuple[Task, Batch]:
    """What candidates of a choice learn, and what they are measured on.

    Args:
        task: what the students of the first seed see.
        recipe: the experiment.

    Raises:
        RecipeError: the recipe names no data.
        DataError: one of the two parts would be empty.
    """
    if task.rows is None:
        raise RecipeError("choices are made on held-out training rows, but the recipe names no data")
    rest, held_out = cut(task.rows, recipe.choice_share, recipe.seed)
    key = fingerprint(rows=task.key, per_class=recipe.per_class, seed=recipe.seed, held_out=recipe.choice_share)
    return dataclasses.replace(task, rows=rest, all_rows=rest, key=key), held_out


def _at(rows: Batch, index: Tensor) -> Batch:
    """The rows with the given numbers, or where a mask is true."""
    return Batch(rows.y[index], None if rows.x is None else rows.x[index])
