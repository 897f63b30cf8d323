"""Who learns in a run: the teacher, and each method's student, through all tasks if there are several."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.methods import scratch
from limbeck.data import Dataset
from limbeck.engine.evaluations.images.feature_networks import equip
from limbeck.engine.experiments.choosing import Candidate, Choice, choose, with_candidate
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.experiments.shared_stages import SharedStages
from limbeck.engine.experiments.source_start import source_key, source_stage
from limbeck.engine.experiments.tasks import Task, cut_task, few_rows
from limbeck.engine.experiments.taught import StandIns, Teacher, cache_steps, taught
from limbeck.engine.experiments.training_stage import TrainingStage, student_key, teacher_key, uses_rows, uses_teacher
from limbeck.engine.stages.environment import is_main_process
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.progress import Progress, SilentProgress
from limbeck.engine.stages.seeding import derive_seed, seeded
from limbeck.engine.stages.stage import Stage
from limbeck.metrics import ModelResult

__all__ = ["Learners", "Teacher"]


class Learners:
    """Trains the models of a recipe, each as a stage of its own.

    Args:
        recipe: the experiment.
        tasks: what is learned in turn, at least one.
        directory: the run directory.
        progress: told what happens.
        shared: stages that this run has in common with others.
        cache: where recorded pairs, outputs of teachers and networks of feature distances are kept between runs.
        dataset: the data, for these networks and for the choice of a few rows of each class.
        source: what the teacher learns, if not the first of the tasks.
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
        source: Task | None = None,
    ) -> None:
        self.recipe = recipe
        self.tasks = tasks
        self.source = source or tasks[0]
        self.directory = directory
        self.progress = progress
        self.shared = shared
        self.cache = cache
        self.dataset = dataset
        self.choices: dict[str, Choice] = {}
        self._stand_ins = StandIns(recipe, cache, progress)
        self._starts: dict[str, DGM] = {}
        self._few: dict[tuple[str, int], Task] = {}

    @property
    def turns(self) -> list[Task]:
        """What a student learns: all but the teacher's task, or the only one there is."""
        return self.tasks[1:] or self.tasks

    @property
    def starts(self) -> set[str]:
        """Fingerprints of the models that are trained for students to start from."""
        if self.recipe.source_from is not None:
            return set()
        keys = (source_key(self.recipe, method, self.source.key) for method in self.recipe.methods)
        return {key for key in keys if key is not None}

    @property
    def cache_steps(self) -> int:
        """Runs of the teacher whose outputs are kept; without those that were kept before, or that nobody asks for."""
        first, last = self.recipe.seed, self.recipe.seed + self.recipe.seeds
        return cache_steps(self.recipe, [self.seen(self.tasks[0], seed).rows for seed in range(first, last)])

    def teacher(self) -> tuple[DGM, ModelResult]:
        """The teacher: trained on its task, read back, loaded, or complete as constructed."""
        if self.recipe.fits_teacher:
            return self._trained(self.teacher_stage(), "teacher", self.recipe.seed, "teacher")
        teacher, folder = self._given_teacher(), self.directory / "teacher"
        # A stage, though nothing is trained: what another teacher has left in the directory must not pass for this one.
        elsewhere = self.recipe.teacher_from is not None
        stage = Stage(folder, "training", fingerprint(given=model_key(teacher), elsewhere=elsewhere))
        stage.begin(self.progress)
        if is_main_process():
            if not elsewhere:
                teacher.save_pretrained(folder)
            stage.finish({})
        return teacher, ModelResult("teacher", None, "teacher", {})

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
        self._choose(method, teacher)
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
                teacher = taught(model, task)
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
            teacher = None if model is None else taught(model, learned)
            self._choose(method, teacher)
            model, _ = self.shared.train(self._student_stage(method, seed, teacher, task), self.progress)
            learned = task

    def teacher_stage(self) -> TrainingStage:
        """Training the teacher on its own task."""
        recipe, task = self.recipe, self.source
        assert recipe.teacher_training is not None
        return TrainingStage(
            recipe.teacher, scratch(), recipe.teacher_training, recipe.trainer, derive_seed(recipe.seed, "teacher"),
            "teacher", teacher_key(recipe, task.key), rows=task.rows, validation=task.validation,
        )  # fmt: skip

    def _choose(self, method: str, teacher: Teacher | None) -> None:
        """Make the choices of a method, if it has any: from here on its students have the best candidate's weights."""
        recipe, task = self.recipe, self.tasks[0]
        if not recipe.methods[method].choices:
            return
        seen = self.seen(task, recipe.seed)
        part, held_out = cut_task(seen, recipe)

        def stage_of(tried: Recipe, candidate: Candidate) -> TrainingStage:
            stage = self._stage(tried, method, recipe.seed, teacher, part, seen.rows)
            return dataclasses.replace(stage, label=f"{method}, {candidate}")

        def finished(stage: TrainingStage, folder: Path) -> DGM:
            return self._finished(stage, folder)[0]

        found = choose(recipe, method, stage_of, finished, held_out, self.directory, self.progress)
        self.choices[method] = found
        self.recipe = with_candidate(recipe, method, found.best)

    def seen(self, task: Task, seed: int) -> Task:
        """A task with the rows that the students of a seed see."""
        if (task.key, seed) not in self._few:
            self._few[task.key, seed] = few_rows(task, self.dataset, self.recipe.per_class, seed)
        return self._few[task.key, seed]

    def _student_stage(
        self, method: str, seed: int, teacher: Teacher | None, task: Task, told: str = ""
    ) -> TrainingStage:
        task = self.seen(task, seed)
        return self._stage(self.recipe, method, seed, teacher, task, task.rows, told)

    def _stage(
        self, recipe: Recipe, method: str, seed: int, teacher: Teacher | None, task: Task, seen: Batch | None,
        told: str = "",
    ) -> TrainingStage:  # fmt: skip
        baseline = recipe.methods[method]
        needs_teacher, starts_there = baseline.objective.needs_teacher, recipe.start_of(method) == "teacher"
        own = baseline.rows == "task"
        rows, validation = (task.rows, task.validation) if own else (task.all_rows, task.all_validation)
        pairs = recipe.pairs_of(method)
        recorded: Callable[[], DGM] | None = None
        if teacher is not None and pairs is not None:
            recorded = functools.partial(self._stand_ins.recorded, teacher, pairs, self.tasks[0].rows)
        elif teacher is not None and needs_teacher and recipe.teacher_cache is not None and seen is not None:
            # A part of the rows is found among all, unless each has views that belong to its number among them.
            kept = seen if recipe.training.augmentation is None else rows
            assert kept is not None
            recorded = functools.partial(self._stand_ins.cached, teacher, kept, recipe.training)
        objective = equip(copy.deepcopy(baseline.objective), self.dataset, self.cache, SilentProgress())
        return TrainingStage(
            recipe.student_of(method), objective, recipe.training_of(method), recipe.trainer,
            # One initialisation a seed for all methods: they differ in the method alone.
            derive_seed(seed, "student"), f"{method}, seed {seed}{told}",
            student_key(
                recipe, method, seed, teacher.key if teacher else "", task.key,
                source_key(recipe, method, self.source.key),
            ),
            teacher=teacher.prepared if teacher and needs_teacher else None,
            rows=rows if uses_rows(recipe, method) else None,
            initial=teacher.model if teacher and starts_there else self._start(method),
            asked=task.earlier if needs_teacher else None, validation=validation, recorded=recorded,
        )  # fmt: skip

    def _start(self, method: str) -> DGM | None:
        """The model that a method's students are fine-tuned from, trained once for all methods of its architecture."""
        key = source_key(self.recipe, method, self.source.key)
        if key is None:
            return None
        if key not in self._starts and self.recipe.source_from is not None:
            self._starts[key] = self.recipe.student_of(method).reloaded(self.recipe.source_from)
        elif key not in self._starts:
            stage = source_stage(self.recipe, method, self.source)
            folder = self.directory / ("start" if self.recipe.methods[method].student is None else f"starts/{key}")
            self._starts[key] = self._finished(stage, folder)[0]
        return self._starts[key]

    def _given_teacher(self) -> DGM:
        """A teacher that needs no training: loaded, or complete as constructed, random weights (if any) included."""
        template = self.recipe.teacher
        if self.recipe.teacher_from is not None:
            return template.reloaded(self.recipe.teacher_from)
        with seeded(derive_seed(derive_seed(self.recipe.seed, "teacher"), "initialisation")):
            return type(template)(**template.config).eval()

    def _trained(self, stage: TrainingStage, method: str, seed: int, directory: str) -> tuple[DGM, ModelResult]:
        """The finished model of one stage, trained now or read back, from the shared stages if there are any."""
        model, values = self._finished(stage, self.directory / directory)
        settings = {"learning_rate": stage.training.learning_rate, "steps": stage.training.steps}
        chosen = self.choices[method].settings if method in self.choices else {}
        return model, ModelResult(method, seed, directory, values, {**settings, **chosen})

    def _finished(self, stage: TrainingStage, folder: Path) -> tuple[DGM, dict[str, Any]]:
        """The model of a stage in a directory of the run, and what was measured while it was trained."""
        if self.shared is not None and stage.record(folder).result is None:
            return self.shared.train(stage, self.progress, into=folder)
        return stage.run(folder, self.progress)
