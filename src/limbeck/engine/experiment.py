"""Running a recipe: teacher, students, baselines, evaluation; stopped at any moment, continued by running again."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.methods import scratch
from limbeck.core.objective import Objective
from limbeck.data import Dataset
from limbeck.engine.batches import Batches
from limbeck.engine.checkpoints import remove_checkpoints
from limbeck.engine.environment import describe_environment, is_main_process
from limbeck.engine.evaluation import Judge, Subject
from limbeck.engine.fit import fit
from limbeck.engine.options import Training
from limbeck.engine.prepare import prepare
from limbeck.engine.progress import LoggedProgress, Progress
from limbeck.engine.recipe import Recipe, rows_of
from limbeck.engine.seeding import derive_seed, seeded
from limbeck.engine.stages import Stage, describe_model, describe_objective, fingerprint, locked, weights_fingerprint
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
    ) -> None:
        self.recipe = recipe
        self.resolved = resolved
        self.name = name
        self.directory = directory
        self.cache = cache
        self.command = command
        self.progress = progress
        self.dry_run = dry_run

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

    def _run(self) -> RunResults:
        recipe = self.recipe
        dataset = None if recipe.data is None else recipe.data.load()
        rows = None if dataset is None else rows_of(dataset.train, recipe.target, recipe.condition)
        data_key = None if dataset is None else dataset.fingerprint
        rows_key = fingerprint(data=data_key, target=recipe.target, condition=recipe.condition)
        teacher, teacher_result = self._teacher(rows, rows_key)
        judge = self._judge(dataset, teacher)
        results = [self._measured(judge, dataset, teacher, teacher_result, trained_on_data=True)]
        prepared = prepare(teacher, None if rows is None else Batches(rows, 2, 0)(0).x)
        teacher_key = fingerprint(model=describe_model(teacher), weights=weights_fingerprint(teacher))
        for seed in range(recipe.seed, recipe.seed + recipe.seeds):
            for method in recipe.methods:
                student, result = self._student(method, seed, prepared, teacher_key, rows, rows_key)
                needs_data = recipe.methods[method].objective.needs_data
                results.append(self._measured(judge, dataset, student, result, trained_on_data=needs_data))
        record = self._record(dataset, judge, results)
        if is_main_process():
            atomic_write_text(self.directory / "metrics.json", record.to_json())
        return record

    def _teacher(self, rows: Batch | None, rows_key: str) -> tuple[DGM, ModelResult]:
        recipe = self.recipe
        if recipe.teacher_from is not None:
            teacher = type(recipe.teacher).from_pretrained(recipe.teacher_from)
            (self.directory / "teacher").mkdir(parents=True, exist_ok=True)
            return teacher, ModelResult("teacher", None, "teacher", {})
        seed, training = derive_seed(recipe.seed, "teacher"), recipe.teacher_training
        if training is None:
            return self._constructed(recipe.teacher, seed)
        return self._trained(
            recipe.teacher, scratch(), training, rows=rows, seed=seed, label="teacher",
            method="teacher", shown_seed=recipe.seed, directory="teacher",
            key=fingerprint(model=describe_model(recipe.teacher), rows=rows_key, seed=seed,
                            training=_essential(training), precision=recipe.trainer.precision),
        )  # fmt: skip

    def _constructed(self, template: DGM, seed: int) -> tuple[DGM, ModelResult]:
        """A teacher that needs no training: its random weights, if any, are what it is."""
        with seeded(derive_seed(seed, "initialisation")):
            model = type(template)(**template.config).eval()
        if is_main_process():
            model.save_pretrained(self.directory / "teacher")
        return model, ModelResult("teacher", None, "teacher", {})

    def _student(
        self, method: str, seed: int, teacher: DGM, teacher_key: str, rows: Batch | None, rows_key: str
    ) -> tuple[DGM, ModelResult]:
        recipe = self.recipe
        objective = recipe.methods[method].objective
        training = recipe.training_of(method)
        # A data-free method must not depend on the data, nor a method without teacher on the teacher.
        uses_rows = objective.needs_data or recipe.condition != "none"
        key = fingerprint(
            model=describe_model(recipe.student_of(method)), objective=describe_objective(objective), seed=seed,
            training=_essential(training), precision=recipe.trainer.precision,
            teacher=teacher_key if objective.needs_teacher else None, rows=rows_key if uses_rows else None,
        )  # fmt: skip
        return self._trained(
            recipe.student_of(method), copy.deepcopy(objective), training,
            teacher=teacher if objective.needs_teacher else None, rows=rows if uses_rows else None,
            # One initialisation a seed for all methods: they differ in the method alone.
            seed=derive_seed(seed, "student"), label=f"{method}, seed {seed}", method=method, shown_seed=seed,
            directory=f"students/{method}/{seed}", key=key,
        )  # fmt: skip

    def _trained(
        self,
        template: DGM,
        objective: Objective,
        training: Training,
        *,
        rows: Batch | None,
        seed: int,
        label: str,
        method: str,
        shown_seed: int,
        directory: str,
        key: str,
        teacher: DGM | None = None,
    ) -> tuple[DGM, ModelResult]:
        """The finished model of one stage, trained now or read back."""
        folder = self.directory / directory
        stage = Stage(folder, "training", key)
        settings = {"learning_rate": training.learning_rate, "steps": training.steps}
        if stage.result is not None:
            self.progress.start(label, training.steps, training.steps)
            self.progress.advance(training.steps)
            model = type(template).from_pretrained(folder)
            if is_main_process():
                remove_checkpoints(folder)  # if the process was killed just before it did
            return model, ModelResult(method, shown_seed, directory, stage.result, dict(settings))
        stage.begin(self.progress)
        with seeded(derive_seed(seed, "initialisation")):
            model = type(template)(**template.config)
        fitted = fit(
            model, objective, training, teacher=teacher, data=rows, seed=seed,
            directory=folder, trainer=self.recipe.trainer, progress=self.progress, label=label,
        )  # fmt: skip
        if fitted.resumed_at:
            self.progress.message(f"{label}: continued from step {fitted.resumed_at}.")
        values = {"train_seconds": fitted.history.seconds}
        if is_main_process():
            model.save_pretrained(folder)
            fitted.history.write(folder / "history.csv")
            if any(True for _ in objective.parameters()):
                _save_objective(objective, folder)
            stage.finish(values)
            remove_checkpoints(folder)
        return model, ModelResult(method, shown_seed, directory, values, dict(settings))

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


def _essential(training: Training) -> dict[str, object]:
    """What the weights depend on: how often one looks at them is not part of it."""
    return {key: value for key, value in vars(training).items() if key not in ("checkpoint_every", "log_every")}


def _save_objective(objective: Objective, folder: Path) -> None:
    """Parameters of learned divergences, beside the student."""
    from safetensors.torch import save

    from limbeck.files import atomic_write_bytes

    atomic_write_bytes(folder / "objective.safetensors", save(dict(objective.state_dict())))
