"""Running a recipe: teacher, students, baselines, evaluation; it can stop at any moment and continues later."""

from __future__ import annotations

import json
import re
from pathlib import Path

from limbeck.core.graph import DGM
from limbeck.data import Dataset
from limbeck.engine.evaluations.evaluation import Judge, Subject
from limbeck.engine.evaluations.picture_kinds import LIKELIHOODS
from limbeck.engine.experiments.choosing import Chosen, choice_notes
from limbeck.engine.experiments.learners import Learners
from limbeck.engine.experiments.likelihoods_without_transfer import draw_likelihoods, likelihood_steps
from limbeck.engine.experiments.measurement_key import measurement_key
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.experiments.rehearsal import rehearse
from limbeck.engine.experiments.run_data import RunData
from limbeck.engine.experiments.shared_stages import SharedStages
from limbeck.engine.experiments.teacher import as_teacher, loaded_notes
from limbeck.engine.experiments.transfer import transfer_notes
from limbeck.engine.stages.environment import describe_environment
from limbeck.engine.stages.locking import locked
from limbeck.engine.stages.progress import LoggedProgress, Progress
from limbeck.engine.stages.ranks import is_main_process
from limbeck.engine.stages.seeding import derive_seed
from limbeck.engine.stages.stage import Stage
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
        cache: where extractors and recorded pairs are kept between runs.
        command: the command that reproduces the run.
        progress: receives what happens.
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
        if self.shared is None:
            raise ValueError("Experiment.train needs shared stages: give the experiment shared=SharedStages(directory)")
        self._prepare(rehearsed=method is None).share(self.shared, method, seed)

    def _run(self) -> RunResults:
        recipe = self.recipe
        learners = self._prepare(rehearsed=True)
        data = learners.data
        if is_main_process():  # not earlier: a command that is refused must not replace the recipe of a finished run
            atomic_write_text(self.directory / "recipe.yaml", self.resolved)
            atomic_write_text(self.directory / "environment.json", json.dumps(describe_environment(), indent=2) + "\n")
        self.progress.expect(learners.steps + likelihood_steps(recipe))
        model, teacher_result = learners.teacher()
        for note in loaded_notes(recipe, model):
            self.progress.message(note)
        judge = self._judge(data.dataset, model)
        own = judge if data.teacher_dataset is data.dataset else self._judge(data.teacher_dataset, model)
        results = [self._measured(own, data.teacher_dataset, teacher_result, (model,), infers=True)]
        for name, variant in (judge.variants() if judge else {}).items():
            result = ModelResult(name, None, "variants/" + re.sub(r"\W+", "-", name), {})
            results.append(self._measured(judge, data.dataset, result, (variant,), infers=False, variant=True))
        teacher = as_teacher(model, data.tasks[0])
        chosen = Chosen(recipe)
        first: dict[str, DGM] = {}
        for seed in range(recipe.seed, recipe.seed + recipe.seeds):
            for method in recipe.methods:
                chosen = learners.choose(chosen, method, teacher)
                result, history = learners.student(chosen, method, seed, teacher)
                first.setdefault(method, history[-1])
                infers = recipe.methods[method].objective.trains_inference
                results.append(self._measured(judge, data.dataset, result, history, infers=infers))
        seen = data.seen(data.tasks[0], recipe.seed)
        draw_likelihoods(chosen.recipe, first, seen, teacher, self.directory, self.progress)
        record = self._record(data, judge, results, chosen, loaded_notes(recipe, model))
        if is_main_process():
            atomic_write_text(self.directory / "metrics.json", record.to_json())
        return record

    def _prepare(self, *, rehearsed: bool) -> Learners:
        """Load the data and, if a rehearsal is wanted, check that all parts fit together before hours of work."""
        recipe = self.recipe
        dataset = teacher_dataset = None if recipe.data is None else recipe.data.load()
        if recipe.teacher_data is not None:
            teacher_dataset = recipe.teacher_data.load()
        if rehearsed:
            rehearse(recipe, dataset, teacher_dataset)
        data = RunData(recipe, dataset, teacher_dataset)
        if rehearsed:
            data.seen(data.tasks[0], recipe.seed)  # raises an error if a class has fewer rows than ``per_class``
        return Learners(recipe, data, self.directory, self.progress, self.shared, self.cache)

    def _judge(self, dataset: Dataset | None, teacher: DGM) -> Judge | None:
        if not is_main_process():
            return None
        return self.recipe.evaluation.judge(
            dataset, teacher, self.cache, derive_seed(self.recipe.seed, "evaluation"), self.progress
        )

    def _measured(
        self,
        judge: Judge | None,
        dataset: Dataset | None,
        result: ModelResult,
        history: tuple[DGM, ...],
        *,
        infers: bool,
        variant: bool = False,
    ) -> ModelResult:
        if judge is None:
            return result
        folder = self.directory / result.directory
        key = measurement_key(
            self.recipe.evaluation, judge, history, dataset, variant=result.method if variant else None
        )
        stage = Stage(folder, "evaluation", key)

        def measure(place: Path) -> dict[str, float]:
            return judge.measure(Subject(history[-1], place, infers, history, variant))

        values = stage.result
        if values is None:
            seed = "" if result.seed is None else f", seed {result.seed}"
            self.progress.message(f"measuring {result.method}{seed}")
            if self.shared is not None:
                values = self.shared.measure(stage, measure)
            else:
                values = measure(folder)
                stage.finish(values)
        merged = {**result.values, **values}
        return ModelResult(result.method, result.seed, result.directory, merged, result.settings)

    def _record(
        self, data: RunData, judge: Judge | None, results: list[ModelResult], chosen: Chosen, loaded: list[str]
    ) -> RunResults:
        recipe = self.recipe
        return RunResults(
            recipe=self.name,
            name=self.directory.name,
            title=recipe.title,
            description=recipe.description,
            command=self.command,
            measures=recipe.evaluation.measures(data.dataset),
            results=results,
            references=judge.references if judge else {},
            notes=[
                *(judge.notes if judge else []),
                *loaded,
                *transfer_notes(recipe, data.dataset, data.teacher_dataset),
                *self._budget_notes(chosen.recipe),
                *choice_notes(recipe, chosen.choices),
            ],
            environment=describe_environment(),
            resolved=self.resolved,
            dry_run=self.dry_run,
            variants=[*judge.variants()] if judge else [],
            teacher_elsewhere=data.teacher_dataset is not data.dataset,
            pictures=[*recipe.evaluation.pictures, *([LIKELIHOODS] if recipe.training.snapshots else [])],
            without_teacher=[m for m, baseline in recipe.methods.items() if not baseline.objective.needs_teacher],
        )

    def _budget_notes(self, recipe: Recipe) -> list[str]:
        """What the students have in common and where they differ, given the recipe with its choices made."""
        training = self.recipe.training
        rates = ", ".join(f"{method} {recipe.training_of(method).learning_rate:g}" for method in recipe.methods)
        others = [method for method, baseline in recipe.methods.items() if baseline.student is not None]
        alike = "Every student has" if not others else f"Every student but {' and '.join(others)} has"
        same = "the same architecture and, per seed, the same initialisation"
        if any(recipe.start_of(method) == "teacher" for method in recipe.methods):
            inherit = [method for method in recipe.methods if recipe.start_of(method) == "teacher"]
            who = "all students" if len(inherit) == len(recipe.methods) else " and ".join(inherit)
            same += f" ({who} starting from the teacher's weights)"
        pairs = [method for method in recipe.methods if recipe.pairs_of(method)]
        recorded = []
        if recipe.pairs is not None and pairs:
            recorded = [
                f"The teacher made {recipe.pairs.training_rows:,} pairs of noise and result once, stored as "
                f"{recipe.pairs.dtype}; {', '.join(pairs)} learned from these."
            ]
        return [
            *recorded,
            f"{alike} {same}; all have {training.steps:,} steps{' per task' if recipe.tasks else ''} and batches of "
            f"{training.batch_size}; learning rates: {rates}.",
        ]
