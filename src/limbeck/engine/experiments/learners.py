"""Who learns in a run: the teacher, and each method's student, through all tasks if there are several."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from limbeck.core.graph import DGM
from limbeck.engine.experiments.choosing import Candidate, Choice, Chosen, choose
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.experiments.run_data import RunData
from limbeck.engine.experiments.shared_stages import SharedStages
from limbeck.engine.experiments.stage_factory import Lesson, StageFactory
from limbeck.engine.experiments.stage_keys import uses_teacher
from limbeck.engine.experiments.stand_ins import StandIns, cache_steps
from limbeck.engine.experiments.tasks import Task, cut_task
from limbeck.engine.experiments.teacher import Teacher, as_teacher, given_stage
from limbeck.engine.experiments.training_stage import TrainingStage
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.ranks import is_main_process
from limbeck.engine.stages.seeding import derive_seed, seeded
from limbeck.metrics import ModelResult

__all__ = ["Learners"]


class Learners:
    """Trains the models of a recipe, each as a stage of its own.

    Args:
        recipe: the experiment, before choices are made.
        data: its data.
        directory: the run directory.
        progress: receives what happens.
        shared: stages that this run has in common with others.
        cache: where recorded pairs, stored outputs and networks of feature distances are kept between runs.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: RunData,
        directory: Path,
        progress: Progress,
        shared: SharedStages | None,
        cache: Path,
    ) -> None:
        self.recipe = recipe
        self.data = data
        self.directory = directory
        self.progress = progress
        self.shared = shared
        self.stages = StageFactory(recipe, data, StandIns(recipe, cache, progress), cache)
        self._sources: dict[str, DGM] = {}

    @property
    def steps(self) -> int:
        """Steps of all trainings of the run, and runs of teachers whose outputs are stored."""
        recipe = self.recipe
        keys = {self.stages.source_key(method) for method in recipe.methods} - {None}
        sources = 0 if recipe.source_from is not None else len(keys)
        seeds = range(recipe.seed, recipe.seed + recipe.seeds)
        stored = cache_steps(recipe, [self.data.seen(self.data.tasks[0], seed).rows for seed in seeds])
        return recipe.total_steps(len(self.data.student_tasks), sources) + stored

    def teacher(self) -> tuple[DGM, ModelResult]:
        """The teacher: trained on its task, read back, loaded, or complete as constructed."""
        if self.recipe.fits_teacher:
            return self._trained(self.stages.teacher(), "teacher", self.recipe.seed, "teacher")
        teacher, folder = self._given_teacher(), self.directory / "teacher"
        # A stage, though nothing is trained: files that another teacher left here must not be taken for this one's.
        elsewhere = self.recipe.teacher_from is not None
        stage = given_stage(folder, teacher, elsewhere=elsewhere)
        stage.begin(self.progress)
        if is_main_process():
            if not elsewhere:
                teacher.save_pretrained(folder)
            stage.finish({})
        return teacher, ModelResult("teacher", None, "teacher", {})

    def choose(self, chosen: Chosen, method: str, teacher: Teacher | None) -> Chosen:
        """Make the choices of a method.

        Args:
            chosen: the recipe, with the choices that were made for other methods.
            method: one of its methods.
            teacher: the teacher of the run; ``None`` if the method needs none.

        Returns:
            The recipe in which the method has the best candidate's weights; ``chosen`` itself if there is nothing to
            choose.
        """
        recipe = chosen.recipe
        if not recipe.methods[method].choices:
            return chosen
        lesson = self.lesson(recipe, method, recipe.seed, teacher, self.data.tasks[0])
        part, held_out = cut_task(lesson.task, recipe)
        lesson = dataclasses.replace(lesson, task=part, seen=lesson.task.rows)

        def stage_of(tried: Recipe, candidate: Candidate) -> TrainingStage:
            return self.stages.student(dataclasses.replace(lesson, recipe=tried, label=f"{method}, {candidate}"))

        def finished(stage: TrainingStage, folder: Path) -> DGM:
            return self._finished(stage, folder)[0]

        return chosen.plus(choose(recipe, method, stage_of, finished, held_out, self.directory, self.progress))

    def student(
        self, chosen: Chosen, method: str, seed: int, teacher: Teacher | None
    ) -> tuple[ModelResult, tuple[DGM, ...]]:
        """Train one student on all of its tasks.

        Args:
            chosen: the recipe, with the choices of the method made.
            method: one of its methods.
            seed: the student's.
            teacher: the teacher of the run; ``None`` if the method needs none.

        Returns:
            What was measured during training; and the models on the way: with several tasks the teacher and the student
            after each of the others, otherwise the student alone.
        """
        tasks, choice = self.data.student_tasks, chosen.choices.get(method)
        history = [teacher.model] if teacher is not None and len(self.data.tasks) > 1 else []
        seconds = 0.0
        for number, task in enumerate(tasks, start=2):
            last = task is tasks[-1]
            folder = f"students/{method}/{seed}" if last else f"tasks/{method}/{seed}/{number}"
            lesson = self.lesson(chosen.recipe, method, seed, teacher, task)
            if len(tasks) > 1:
                lesson = dataclasses.replace(lesson, label=f"{lesson.label}, task {number}")
            model, result = self._trained(self.stages.student(lesson), method, seed, folder, choice)
            history.append(model)
            seconds += result.values["train_seconds"]
            if not last:
                teacher = as_teacher(model, task)
        return dataclasses.replace(result, values={**result.values, "train_seconds": seconds}), tuple(history)

    def share(self, shared: SharedStages, method: str | None, seed: int) -> None:
        """Train one model into shared stages and nothing else.

        Args:
            shared: the stages; for a student, they have its teacher already.
            method: one of the recipe's methods; ``None`` for the teacher.
            seed: the student's.
        """
        if method is None:
            shared.train(self.stages.teacher(), self.progress)
            return
        model = None
        if uses_teacher(self.recipe, method):
            fits = self.recipe.fits_teacher  # silently: it was reported when it was trained
            model = shared.train(self.stages.teacher(), Progress())[0] if fits else self._given_teacher()
        chosen, learned = Chosen(self.recipe), self.data.tasks[0]
        for task in self.data.student_tasks:
            teacher = None if model is None else as_teacher(model, learned)
            chosen = self.choose(chosen, method, teacher)
            stage = self.stages.student(self.lesson(chosen.recipe, method, seed, teacher, task))
            model, _ = shared.train(stage, self.progress)
            learned = task

    def lesson(self, recipe: Recipe, method: str, seed: int, teacher: Teacher | None, task: Task) -> Lesson:
        """What a student learns from a teacher on a task; the model that it starts from is trained if necessary."""
        if recipe.start_of(method) == "teacher":
            initial = None if teacher is None else teacher.model
        else:
            initial = self._source(method)
        return Lesson(recipe, method, seed, self.data.seen(task, seed), f"{method}, seed {seed}", teacher, initial)

    def _source(self, method: str) -> DGM | None:
        """The model that a method's students are fine-tuned from, trained once for all methods of its architecture."""
        key = self.stages.source_key(method)
        if key is None:
            return None
        if key not in self._sources and self.recipe.source_from is not None:
            self._sources[key] = self.recipe.student_of(method).reloaded(self.recipe.source_from)
        elif key not in self._sources:
            folder = self.directory / ("start" if self.recipe.methods[method].student is None else f"starts/{key}")
            self._sources[key] = self._finished(self.stages.source(method), folder)[0]
        return self._sources[key]

    def _given_teacher(self) -> DGM:
        """A teacher that needs no training: loaded, or complete as constructed, random weights (if any) included."""
        template = self.recipe.teacher
        if self.recipe.teacher_from is not None:
            return template.reloaded(self.recipe.teacher_from)
        with seeded(derive_seed(derive_seed(self.recipe.seed, "teacher"), "initialisation")):
            return type(template)(**template.config).eval()

    def _trained(
        self, stage: TrainingStage, method: str, seed: int, directory: str, choice: Choice | None = None
    ) -> tuple[DGM, ModelResult]:
        """The finished model of one stage, trained now or read back, and what a report says of it."""
        model, values = self._finished(stage, self.directory / directory)
        settings = {"learning_rate": stage.training.learning_rate, "steps": stage.training.steps}
        chosen = {} if choice is None else choice.settings
        return model, ModelResult(method, seed, directory, values, {**settings, **chosen})

    def _finished(self, stage: TrainingStage, folder: Path) -> tuple[DGM, dict[str, Any]]:
        """The model of a stage in a directory of the run, from the shared stages if there are any; and its values."""
        if self.shared is not None and stage.record(folder).result is None:
            return self.shared.train(stage, self.progress, into=folder)
        return stage.run(folder, self.progress)
