"""Who learns in a run: the teacher, and each method's student, through all tasks if there are several."""

from __future__ import annotations

import copy
import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

from limbeck.core.graph import DGM
from limbeck.core.methods import scratch
from limbeck.data import Dataset
from limbeck.engine.batches import Batches
from limbeck.engine.environment import is_main_process
from limbeck.engine.feature_networks import equip
from limbeck.engine.pair_options import Pairs
from limbeck.engine.prepare import prepare
from limbeck.engine.progress import Progress, SilentProgress
from limbeck.engine.recipe import Recipe
from limbeck.engine.recorded import RecordedTeacher
from limbeck.engine.recording import record
from limbeck.engine.seeding import derive_seed, seeded
from limbeck.engine.shared_stages import SharedStages
from limbeck.engine.stages import describe_model, fingerprint, weights_fingerprint
from limbeck.engine.tasks import Task
from limbeck.engine.training_stage import TrainingStage, student_key, teacher_key, uses_rows, uses_teacher
from limbeck.metrics import ModelResult

__all__ = ["Learners", "Teacher"]


@dataclass(frozen=True)
class Teacher:
    """A finished model that others learn from.

    Attributes:
        model: as it was trained.
        prepared: the same, made fast for running.
        key: its fingerprint.
    """

    model: DGM
    prepared: DGM
    key: str


class Learners:
    """Trains the models of a recipe, each as a stage of its own.

    Args:
        recipe: the experiment.
        tasks: what is learned in turn, at least one.
        directory: the run directory.
        progress: told what happens.
        shared: stages that this run has in common with others.
        cache: where recorded pairs and networks of feature distances are kept between runs.
        dataset: the data, for these networks.
    """

    def __init__(
        self,
        recipe: Recipe,
        tasks: list[Task],
        directory: Path,
        progress: Progress,
        shared: SharedStages | None,
        cache: Path,
        dataset: Dataset | None = None,
    ) -> None:
        self.recipe = recipe
        self.tasks = tasks
        self.directory = directory
        self.progress = progress
        self.shared = shared
        self.cache = cache
        self.dataset = dataset
        self._recordings: dict[str, RecordedTeacher] = {}

    @property
    def turns(self) -> list[Task]:
        """What a student learns: all but the teacher's task, or the only one there is."""
        return self.tasks[1:] or self.tasks

    def teacher(self) -> tuple[DGM, ModelResult]:
        """The teacher: trained on the first task, read back, loaded, or complete as constructed."""
        if self.recipe.fits_teacher:
            return self._trained(self.teacher_stage(), "teacher", self.recipe.seed, "teacher")
        teacher, folder = self._given_teacher(), self.directory / "teacher"
        folder.mkdir(parents=True, exist_ok=True)
        if self.recipe.teacher_from is None and is_main_process():
            teacher.save_pretrained(folder)
        return teacher, ModelResult("teacher", None, "teacher", {})

    def taught(self, model: DGM, task: Task) -> Teacher:
        """A finished model as the next ones learn from it.

        Args:
            model: it stays as it is.
            task: what it learned.
        """
        example = None if task.rows is None else Batches(task.rows, 2, 0)(0).x
        key = fingerprint(model=describe_model(model), weights=weights_fingerprint(model))
        return Teacher(model, prepare(model, example), key)

    def recorded(self, teacher: Teacher, pairs: Pairs) -> RecordedTeacher:
        """A teacher that replays its pairs; those that are not there yet are made now."""
        found = self._recordings.get(teacher.key)
        if found is None:
            rows = self.tasks[0].rows
            found = record(
                teacher.prepared, pairs, self.cache / "pairs", seed=derive_seed(self.recipe.seed, "pairs"),
                inputs=None if rows is None else rows.x, identity=teacher.key, trainer=self.recipe.trainer,
                progress=self.progress,
            )  # fmt: skip
            self._recordings[teacher.key] = found
        return found

    def student(self, method: str, seed: int, teacher: Teacher) -> tuple[ModelResult, tuple[DGM, ...]]:
        """One student, after all tasks.

        Args:
            method: one of the recipe's methods.
            seed: the student's.
            teacher: the teacher of the run.

        Returns:
            What was measured while it was trained; and the models on the way: with several tasks the teacher and the
            student after each of the others, else the student alone.
        """
        history = [teacher.model] if len(self.tasks) > 1 else []
        seconds = 0.0
        for number, task in enumerate(self.turns, start=2):
            last = task is self.turns[-1]
            told = f", task {number}" if len(self.turns) > 1 else ""
            folder = f"students/{method}/{seed}" if last else f"tasks/{method}/{seed}/{number}"
            model, result = self._trained(self._student_stage(method, seed, teacher, task, told), method, seed, folder)
            history.append(model)
            seconds += result.values["train_seconds"]
            if not last:
                teacher = self.taught(model, task)
        return dataclasses.replace(result, values={**result.values, "train_seconds": seconds}), tuple(history)

    def share_student(self, method: str, seed: int) -> None:
        """Train a student into the shared stages alone; the teacher is there, and was told of when it was trained.

        Args:
            method: one of the recipe's methods.
            seed: the student's.
        """
        assert self.shared is not None
        model = None
        if uses_teacher(self.recipe, method):
            fits = self.recipe.fits_teacher
            model = self.shared.train(self.teacher_stage(), SilentProgress())[0] if fits else self._given_teacher()
        learned = self.tasks[0]
        for task in self.turns:
            teacher = None if model is None else self.taught(model, learned)
            model, _ = self.shared.train(self._student_stage(method, seed, teacher, task), self.progress)
            learned = task

    def teacher_stage(self) -> TrainingStage:
        """Training the teacher on the first task."""
        recipe, task = self.recipe, self.tasks[0]
        assert recipe.teacher_training is not None
        return TrainingStage(
            recipe.teacher, scratch(), recipe.teacher_training, recipe.trainer, derive_seed(recipe.seed, "teacher"),
            "teacher", teacher_key(recipe, task.key), rows=task.rows, validation=task.validation,
        )  # fmt: skip

    def _student_stage(
        self, method: str, seed: int, teacher: Teacher | None, task: Task, told: str = ""
    ) -> TrainingStage:
        recipe, baseline = self.recipe, self.recipe.methods[method]
        needs_teacher, starts_there = baseline.objective.needs_teacher, recipe.start_of(method) == "teacher"
        own = baseline.rows == "task"
        pairs = recipe.pairs_of(method)
        recorded = None if teacher is None or pairs is None else functools.partial(self.recorded, teacher, pairs)
        rows, validation = (task.rows, task.validation) if own else (task.all_rows, task.all_validation)
        objective = equip(copy.deepcopy(baseline.objective), self.dataset, self.cache, SilentProgress())
        return TrainingStage(
            recipe.student_of(method), objective, recipe.training_of(method), recipe.trainer,
            # One initialisation a seed for all methods: they differ in the method alone.
            derive_seed(seed, "student"), f"{method}, seed {seed}{told}",
            student_key(recipe, method, seed, teacher.key if teacher else "", task.key),
            teacher=teacher.prepared if teacher and needs_teacher else None,
            rows=rows if uses_rows(recipe, method) else None,
            initial=teacher.model if teacher and starts_there else None,
            asked=task.earlier if needs_teacher else None, validation=validation, recorded=recorded,
        )  # fmt: skip

    def _given_teacher(self) -> DGM:
        """A teacher that needs no training: loaded, or complete as constructed, random weights (if any) included."""
        template = self.recipe.teacher
        if self.recipe.teacher_from is not None:
            return template.reloaded(self.recipe.teacher_from)
        with seeded(derive_seed(derive_seed(self.recipe.seed, "teacher"), "initialisation")):
            return type(template)(**template.config).eval()

    def _trained(self, stage: TrainingStage, method: str, seed: int, directory: str) -> tuple[DGM, ModelResult]:
        """The finished model of one stage, trained now or read back, from the shared stages if there are any."""
        folder = self.directory / directory
        if self.shared is not None and stage.record(folder).result is None:
            model, values = self.shared.train(stage, self.progress, into=folder)
        else:
            model, values = stage.run(folder, self.progress)
        settings = {"learning_rate": stage.training.learning_rate, "steps": stage.training.steps}
        return model, ModelResult(method, seed, directory, values, dict(settings))
