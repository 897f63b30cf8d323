"""The data of a run, and which rows of them each of its models learns."""

from __future__ import annotations

from limbeck.data import Dataset
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.experiments.tasks import Task, few_rows, tasks_of

__all__ = ["RunData"]


class RunData:
    """The datasets of a recipe, cut into the tasks that teacher and students learn.

    Args:
        recipe: the experiment.
        dataset: what the students learn from; ``None`` if the recipe names no data.
        teacher_dataset: what the teacher learns from; the same object unless the recipe names ``teacher_data``.

    Attributes:
        tasks: what is learned in turn, at least one.
        teacher_task: what the teacher learns.

    Raises:
        RecipeError: see :func:`tasks_of`.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset | None, teacher_dataset: Dataset | None) -> None:
        self.dataset = dataset
        self.teacher_dataset = teacher_dataset
        self.tasks = tasks_of(recipe, dataset)
        self.teacher_task = self.tasks[0] if teacher_dataset is dataset else tasks_of(recipe, teacher_dataset)[0]
        self._per_class = recipe.per_class
        self._seen: dict[tuple[str, int], Task] = {}

    @property
    def student_tasks(self) -> list[Task]:
        """What a student learns in turn: all but the teacher's task, or the only one there is."""
        return self.tasks[1:] or self.tasks

    def seen(self, task: Task, seed: int) -> Task:
        """A task with the rows that the students of a seed see; the same object for all methods.

        Raises:
            RecipeError, DataError: see :func:`few_rows`.
        """
        if (task.key, seed) not in self._seen:
            self._seen[task.key, seed] = few_rows(task, self.dataset, self._per_class, seed)
        return self._seen[task.key, seed]
