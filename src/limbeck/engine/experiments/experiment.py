"""Running a recipe: teacher, students, baselines, evaluation; stopped at any moment, continued by running again."""

from __future__ import annotations

import json
import re
from pathlib import Path

from limbeck.core.graph import DGM
from limbeck.data import Dataset
from limbeck.engine.evaluations.evaluation import Judge, Subject
from limbeck.engine.evaluations.picture_kinds import LIKELIHOODS
from limbeck.engine.experiments.afterwards import afterwards_steps, draw_likelihoods
from limbeck.engine.experiments.choosing import choice_notes
from limbeck.engine.experiments.learners import Learners
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.experiments.rehearsal import rehearse
from limbeck.engine.experiments.shared_stages import SharedStages
from limbeck.engine.experiments.tasks import few_rows, tasks_of
from limbeck.engine.experiments.taught import taught
from limbeck.engine.experiments.transfer import transfer_notes
from limbeck.engine.stages.environment import describe_environment, is_main_process
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.locking import locked
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.progress import LoggedProgress, Progress
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
        *_, learners = self._prepare(rehearsed=method is None)
        if method is None:
            self.shared.train(learners.teacher_stage(), self.progress)
        else:
            learners.share_student(method, seed)

    def _run(self) -> RunResults:
        recipe = self.recipe
        dataset, source, learners = self._prepare(rehearsed=True)
        if is_main_process():  # a command that is refused leaves the recipe of what was done before
            atomic_write_text(self.directory / "recipe.yaml", self.resolved)
            atomic_write_text(self.directory / "environment.json", json.dumps(describe_environment(), indent=2) + "\n")
        steps = recipe.total_steps(len(learners.turns), len(learners.starts))
        self.progress.expect(steps + learners.cache_steps + afterwards_steps(recipe))
        model, teacher_result = learners.teacher()
        judge = self._judge(dataset, model)
        own = judge if source is dataset else self._judge(source, model)
        results = [self._measured(own, source, teacher_result, (model,), infers=True)]
        for name, variant in (judge.variants() if judge else {}).items():
            result = ModelResult(name, None, "variants/" + re.sub(r"\W+", "-", name), {})
            results.append(self._measured(judge, dataset, result, (variant,), infers=False, variant=True))
        teacher = taught(model, learners.tasks[0])
        first: dict[str, DGM] = {}
        for seed in range(recipe.seed, recipe.seed + recipe.seeds):
            for method in recipe.methods:
                result, history = learners.student(method, seed, teacher)
                first.setdefault(method, history[-1])
                infers = recipe.methods[method].objective.trains_inference
                results.append(self._measured(judge, dataset, result, history, infers=infers))
        seen = learners.seen(learners.tasks[0], recipe.seed)
        draw_likelihoods(learners.recipe, first, seen, teacher, self.directory, self.progress)
        record = self._record(dataset, source, judge, results, learners)
        if is_main_process():
            atomic_write_text(self.directory / "metrics.json", record.to_json())
        return record

    def _prepare(self, *, rehearsed: bool) -> tuple[Dataset | None, Dataset | None, Learners]:
        """The students' data, the teacher's, and who learns from them; before hours of work, whether all fits."""
        recipe = self.recipe
        dataset = source = None if recipe.data is None else recipe.data.load()
        if recipe.teacher_data is not None:
            source = recipe.teacher_data.load()
        if rehearsed:
            rehearse(recipe, dataset, source)
        tasks = tasks_of(recipe, dataset)
        if rehearsed:
            few_rows(tasks[0], dataset, recipe.per_class, recipe.seed)  # that there are so many
        taught = tasks[0] if source is dataset else tasks_of(recipe, source)[0]
        learners = Learners(recipe, tasks, self.directory, self.progress, self.shared, self.cache, dataset, taught)
        return dataset, source, learners

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
        settings = dict(vars(self.recipe.evaluation))
        key = fingerprint(
            models=[model_key(model) for model in history], settings=settings,
            data=dataset.fingerprint if dataset else None, kind=type(self.recipe.evaluation).__qualname__,
            seed=judge.seed, reference=judge.reference_key, **({"variant": result.method} if variant else {}),
        )  # fmt: skip
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
        self,
        dataset: Dataset | None,
        source: Dataset | None,
        judge: Judge | None,
        results: list[ModelResult],
        learners: Learners,
    ) -> RunResults:
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
            notes=[
                *(judge.notes if judge else []),
                *transfer_notes(recipe, dataset, source),
                *self._budget_notes(learners.recipe),
                *choice_notes(recipe, learners.choices),
            ],
            environment=describe_environment(),
            dry_run=self.dry_run,
            variants=[*judge.variants()] if judge else [],
            teacher_elsewhere=source is not dataset,
            pictures=[*recipe.evaluation.pictures, *([LIKELIHOODS] if recipe.training.snapshots else [])],
            without_teacher=[m for m, baseline in recipe.methods.items() if not baseline.objective.needs_teacher],
        )

    def _budget_notes(self, recipe: Recipe) -> list[str]:
        """What all students have in common, and what not, once choices are made."""
        training = self.recipe.training
        rates = ", ".join(f"{method} {recipe.training_of(method).learning_rate:g}" for method in recipe.methods)
        others = [method for method, baseline in recipe.methods.items() if baseline.student is not None]
        alike = "Every student has" if not others else f"Every student but {' and '.join(others)} has"
        same = "the same architecture and initialisation a seed"
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
            f"{alike} {same}; all have {training.steps:,} steps{' a task' if recipe.tasks else ''} and batches of "
            f"{training.batch_size}; learning rates: {rates}.",
        ]
