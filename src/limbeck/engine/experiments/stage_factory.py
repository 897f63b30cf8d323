"""Building the training stages of a run from its recipe and its data; nothing is trained here."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.methods import scratch
from limbeck.engine.evaluations.images.feature_networks import equip
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.experiments.run_data import RunData
from limbeck.engine.experiments.source_start import source_key, source_stage
from limbeck.engine.experiments.stage_keys import student_key, teacher_key, uses_rows
from limbeck.engine.experiments.stand_ins import StandIns
from limbeck.engine.experiments.tasks import Task
from limbeck.engine.experiments.teacher import Teacher
from limbeck.engine.experiments.training_stage import TrainingStage
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed

__all__ = ["Lesson", "StageFactory"]


@dataclass(frozen=True)
class Lesson:
    """What one student learns in one training.

    Attributes:
        recipe: the experiment; the choices of the method are made.
        method: one of its methods.
        seed: the student's.
        task: the rows that the student learns from.
        label: what to call the training.
        teacher: the model that the student learns from; ``None`` if the method needs none.
        initial: the model whose weights the student starts from; by default fresh weights.
        seen: all rows that the students of the seed see, where the task has only a part of them; by default the task's.
    """

    recipe: Recipe
    method: str
    seed: int
    task: Task
    label: str
    teacher: Teacher | None = None
    initial: DGM | None = None
    seen: Batch | None = None


class StageFactory:
    """Builds the training stages of a run.

    Args:
        recipe: the experiment, before choices are made.
        data: its data.
        stand_ins: make what takes the place of a teacher; called when a stage that is not finished is run.
        cache: where networks of feature distances are kept between runs.
    """

    def __init__(self, recipe: Recipe, data: RunData, stand_ins: StandIns, cache: Path) -> None:
        self._recipe = recipe
        self._data = data
        self._stand_ins = stand_ins
        self._cache = cache

    def teacher(self) -> TrainingStage:
        """Training the teacher on its own task."""
        recipe, task = self._recipe, self._data.teacher_task
        return TrainingStage(
            recipe.teacher, scratch(), recipe.needed_teacher_training, recipe.trainer,
            derive_seed(recipe.seed, "teacher"), "teacher", teacher_key(recipe, task.key), rows=task.rows,
            validation=task.validation,
        )  # fmt: skip

    def source(self, method: str) -> TrainingStage:
        """Training the model from which the students of a method start (``start: source``)."""
        return source_stage(self._recipe, method, self._data.teacher_task)

    def source_key(self, method: str) -> str | None:
        """Fingerprint of the model from which the students of a method start; ``None`` if they start elsewhere."""
        return source_key(self._recipe, method, self._data.teacher_task.key)

    def student(self, lesson: Lesson) -> TrainingStage:
        """Training a student."""
        recipe, method, task, teacher = lesson.recipe, lesson.method, lesson.task, lesson.teacher
        baseline = recipe.methods[method]
        needs_teacher = baseline.objective.needs_teacher
        own = baseline.rows == "task"
        rows, validation = (task.rows, task.validation) if own else (task.all_rows, task.all_validation)
        return TrainingStage(
            recipe.student_of(method),
            equip(copy.deepcopy(baseline.objective), self._data.dataset, self._cache, Progress()),
            recipe.training_of(method),
            recipe.trainer,
            # One initialisation per seed for all methods: they differ in the method alone.
            derive_seed(lesson.seed, "student"),
            lesson.label,
            student_key(recipe, method, lesson.seed, teacher.key if teacher else "", task.key, self.source_key(method)),
            teacher=teacher.prepared if teacher and needs_teacher else None,
            rows=rows if uses_rows(recipe, method) else None,
            initial=lesson.initial,
            teacher_inputs=task.earlier if needs_teacher else None,
            validation=validation,
            stand_in=self._stand_in(lesson, rows),
        )

    def _stand_in(self, lesson: Lesson, rows: Batch | None) -> Callable[[], DGM] | None:
        """Makes what takes the place of the teacher for these rows; ``None`` if the teacher itself runs, or none."""
        recipe, method, teacher = lesson.recipe, lesson.method, lesson.teacher
        if teacher is None:
            return None
        pairs = recipe.pairs_of(method)
        if pairs is not None:
            return functools.partial(self._stand_ins.recorded, teacher, pairs, self._data.tasks[0].rows)
        if recipe.teacher_cache is None or not recipe.methods[method].objective.needs_teacher:
            return None
        # A part of the rows is found among all rows, unless augmented views depend on a row's number in the part.
        if recipe.training.augmentation is None:
            rows = lesson.task.rows if lesson.seen is None else lesson.seen
        if rows is None:
            return None
        return functools.partial(self._stand_ins.cached, teacher, recipe.teacher_cache, rows, recipe.training)
