"""Running a recipe: teacher, students, baselines, evaluation; stopped at any moment, continued by running again."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.methods import scratch
from limbeck.data import Dataset
from limbeck.engine.batches import Batches
from limbeck.engine.environment import describe_environment, is_main_process
from limbeck.engine.evaluation import Judge, Subject
from limbeck.engine.prepare import prepare
from limbeck.engine.progress import LoggedProgress, Progress, SilentProgress
from limbeck.engine.recipe import Recipe, rows_of
from limbeck.engine.seeding import derive_seed, seeded
from limbeck.engine.shared_stages import SharedStages
from limbeck.engine.stages import Stage, describe_model, fingerprint, locked, weights_fingerprint
from limbeck.engine.training_stage import TrainingStage, student_key, teacher_key, uses_rows
from limbeck.files import atomic_write_text, remove_temporary_files
from limbeck.metrics import ModelResult, RunResults

__all__ = ["Experiment"]


class Experiment:
    """One recipe in one run directory.

    Args:
        recipe: what to do.
        resolved: the recipe with every default filled in, as YAML.
        name: recipe's name.
        directory: the run directory.
        cache: where extractors are kept between runs.
        command: the command that reproduces the run.
        progress: told what happens.
        dry_run: whether stages were cut short.
        shared: stages that this run has in common with others, such as the other points of a sweep.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        resolved: str,
        name: str,
        directory: Path,
        cache: Path,
        command: str,
        progress: Progress,
        dry_run: bool = False,
        shared: SharedStages | None = None,
    ) -> None:
        self.recipe = recipe
        self.resolved = resolved
        self.name = name
        self.directory = directory
        self.cache = cache
        self.command = command
        self.progress = progress
        self.dry_run = dry_run
        self.shared = shared

    def run(self) -> RunResults:
        """Do every stage that is not done yet.

        Returns:
            All results, also written to ``metrics.json``.

        Raises:
            LimbeckError: see its subclasses; what was finished stays.
        """
        if not is_main_process():
            return self._run()
        with locked(self.directory):
            remove_temporary_files(self.directory)
            atomic_write_text(self.directory / "recipe.yaml", self.resolved)
            atomic_write_text(self.directory / "environment.json", json.dumps(describe_environment(), indent=2) + "\n")
            self.progress = LoggedProgress(self.progress, self.directory / "log.txt")
            self.progress.message(self.command)
            return self._run()

    def train(self, method: str | None = None, seed: int = 0) -> None:
        """Train one model into the shared stages and nothing else; :meth:`run` then finds it there.

        Args:
            method: one of the recipe's methods; ``None`` for the teacher.
            seed: the student's.

        Raises:
            LimbeckError: see its subclasses; what was finished stays.
        """
        assert self.shared is not None
        _, rows, rows_key = self._data()
        if method is None:
            self.shared.train(self._teacher_stage(rows, rows_key), self.progress)
            return
        prepared, key = None, ""
        if self.recipe.methods[method].objective.needs_teacher:
            training = self.recipe.fits_teacher
            # The teacher is there, and was told when it was trained.
            teacher = (
                self.shared.train(self._teacher_stage(rows, rows_key), SilentProgress())[0]
                if training
                else self._given_teacher()
            )
            prepared, key = self._prepared(teacher, rows)
        self.shared.train(self._student_stage(method, seed, prepared, key, rows, rows_key), self.progress)

    def _run(self) -> RunResults:
        recipe = self.recipe
        dataset, rows, rows_key = self._data()
        teacher, teacher_result = self._teacher(rows, rows_key)
        judge = self._judge(dataset, teacher)
        results = [self._measured(judge, dataset, teacher, teacher_result, trained_on_data=True)]
        prepared, teacher_key = self._prepared(teacher, rows)
        for seed in range(recipe.seed, recipe.seed + recipe.seeds):
            for method in recipe.methods:
                stage = self._student_stage(method, seed, prepared, teacher_key, rows, rows_key)
                student, result = self._trained(stage, method, seed, f"students/{method}/{seed}")
                needs_data = recipe.methods[method].objective.needs_data
                results.append(self._measured(judge, dataset, student, result, trained_on_data=needs_data))
        record = self._record(dataset, judge, results)
        if is_main_process():
            atomic_write_text(self.directory / "metrics.json", record.to_json())
        return record

    def _data(self) -> tuple[Dataset | None, Batch | None, str]:
        """The data, its training rows as the models see them, and their fingerprint."""
        recipe = self.recipe
        dataset = None if recipe.data is None else recipe.data.load()
        rows = None if dataset is None else rows_of(dataset.train, recipe.target, recipe.condition)
        data_key = None if dataset is None else dataset.fingerprint
        return dataset, rows, fingerprint(data=data_key, target=recipe.target, condition=recipe.condition)

    def _teacher(self, rows: Batch | None, rows_key: str) -> tuple[DGM, ModelResult]:
        if self.recipe.fits_teacher:
            return self._trained(self._teacher_stage(rows, rows_key), "teacher", self.recipe.seed, "teacher")
        teacher, folder = self._given_teacher(), self.directory / "teacher"
        folder.mkdir(parents=True, exist_ok=True)
        if self.recipe.teacher_from is None and is_main_process():
            teacher.save_pretrained(folder)
        return teacher, ModelResult("teacher", None, "teacher", {})

    def _given_teacher(self) -> DGM:
        """A teacher that needs no training: loaded, or complete as constructed, random weights (if any) included."""
        template = self.recipe.teacher
        if self.recipe.teacher_from is not None:
            return type(template).from_pretrained(self.recipe.teacher_from)
        with seeded(derive_seed(derive_seed(self.recipe.seed, "teacher"), "initialisation")):
            return type(template)(**template.config).eval()

    def _prepared(self, teacher: DGM, rows: Batch | None) -> tuple[DGM, str]:
        """The teacher as students are compared with it, and its fingerprint."""
        prepared = prepare(teacher, None if rows is None else Batches(rows, 2, 0)(0).x)
        return prepared, fingerprint(model=describe_model(teacher), weights=weights_fingerprint(teacher))

    def _teacher_stage(self, rows: Batch | None, rows_key: str) -> TrainingStage:
        recipe = self.recipe
        assert recipe.teacher_training is not None
        return TrainingStage(
            recipe.teacher, scratch(), recipe.teacher_training, recipe.trainer, derive_seed(recipe.seed, "teacher"),
            "teacher", teacher_key(recipe, rows_key), rows=rows,
        )  # fmt: skip

    def _student_stage(
        self, method: str, seed: int, teacher: DGM | None, teacher_key: str, rows: Batch | None, rows_key: str
    ) -> TrainingStage:
        recipe = self.recipe
        objective = recipe.methods[method].objective
        return TrainingStage(
            recipe.student_of(method), copy.deepcopy(objective), recipe.training_of(method), recipe.trainer,
            # One initialisation a seed for all methods: they differ in the method alone.
            derive_seed(seed, "student"), f"{method}, seed {seed}",
            student_key(recipe, method, seed, teacher_key, rows_key),
            teacher=teacher if objective.needs_teacher else None, rows=rows if uses_rows(recipe, method) else None,
        )  # fmt: skip

    def _trained(self, stage: TrainingStage, method: str, seed: int, directory: str) -> tuple[DGM, ModelResult]:
        """The finished model of one stage, trained now or read back, from the shared stages if there are any."""
        folder = self.directory / directory
        if self.shared is not None and stage.record(folder).result is None:
            model, values = self.shared.train(stage, self.progress, into=folder)
        else:
            model, values = stage.run(folder, self.progress)
        settings = {"learning_rate": stage.training.learning_rate, "steps": stage.training.steps}
        return model, ModelResult(method, seed, directory, values, dict(settings))

    def _judge(self, dataset: Dataset | None, teacher: DGM) -> Judge | None:
        if not is_main_process():
            return None
        return self.recipe.evaluation.judge(
            dataset, teacher, self.cache, derive_seed(self.recipe.seed, "evaluation"), self.progress
        )

    def _measured(
        self, judge: Judge | None, dataset: Dataset | None, model: DGM, result: ModelResult, *, trained_on_data: bool
    ) -> ModelResult:
        if judge is None:
            return result
        folder = self.directory / result.directory
        settings = dict(vars(self.recipe.evaluation))
        key = fingerprint(
            weights=weights_fingerprint(model), settings=settings, data=dataset.fingerprint if dataset else None,
            kind=type(self.recipe.evaluation).__qualname__, seed=judge.seed, reference=judge.reference_key,
        )  # fmt: skip
        stage = Stage(folder, "evaluation", key)
        values = stage.result
        if values is None:
            seed = "" if result.seed is None else f", seed {result.seed}"
            self.progress.message(f"measuring {result.method}{seed}")
            if self.shared is not None:
                values = self.shared.measure(stage, lambda place: judge.measure(Subject(model, place, trained_on_data)))
            else:
                values = judge.measure(Subject(model, folder, trained_on_data))
                stage.finish(values)
        merged = {**result.values, **values}
        return ModelResult(result.method, result.seed, result.directory, merged, result.settings)

    def _record(self, dataset: Dataset | None, judge: Judge | None, results: list[ModelResult]) -> RunResults:
        recipe = self.recipe
        return RunResults(
            recipe=self.name,
            name=self.directory.name,
            title=recipe.title,
            description=recipe.description,
            command=self.command,
            measures=recipe.evaluation.measures(dataset),
            results=results,
            references=judge.references if judge else {},
            notes=[*(judge.notes if judge else []), *self._budget_notes()],
            environment=describe_environment(),
            dry_run=self.dry_run,
            without_teacher=[m for m, baseline in recipe.methods.items() if not baseline.objective.needs_teacher],
        )

    def _budget_notes(self) -> list[str]:
        recipe, training = self.recipe, self.recipe.training
        rates = ", ".join(f"{method} {recipe.training_of(method).learning_rate:g}" for method in recipe.methods)
        others = [method for method, baseline in recipe.methods.items() if baseline.student is not None]
        alike = "Every student has" if not others else f"Every student but {' and '.join(others)} has"
        return [
            f"{alike} the same architecture and initialisation a seed; all have {training.steps:,} steps and batches "
            f"of {training.batch_size}; learning rates: {rates}."
        ]
