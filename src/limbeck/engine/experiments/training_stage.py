"""Training one model of a run as a stage: what it depends on, and doing it, continuing it or reading it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.engine.evaluations.images.feature_networks import wants_network
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.stages.environment import is_main_process
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.model_description import describe_model
from limbeck.engine.stages.objective_description import describe_objective
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed, seeded
from limbeck.engine.stages.stage import Stage
from limbeck.engine.training.checkpoints import remove_checkpoints
from limbeck.engine.training.fit import Fitted, fit
from limbeck.engine.training.objective_files import save_objective
from limbeck.engine.training.stopping import validated_on
from limbeck.errors import ModelError, RecipeError

__all__ = ["HISTORY", "TrainingStage", "student_key", "teacher_key", "uses_rows", "uses_teacher"]

HISTORY = "history.csv"
"""Name of the file beside a model, of its losses over the steps."""


def teacher_key(recipe: Recipe, rows_key: str) -> str:
    """Fingerprint of everything that the weights of a recipe's teacher depend on.

    Args:
        recipe: one that trains its teacher.
        rows_key: fingerprint of the rows of data as the models see them.
    """
    assert recipe.teacher_training is not None
    return fingerprint(
        model=describe_model(recipe.teacher), rows=rows_key, seed=derive_seed(recipe.seed, "teacher"),
        training=recipe.teacher_training.essential(), precision=recipe.trainer.precision,
    )  # fmt: skip


def student_key(recipe: Recipe, method: str, seed: int, teacher: str, rows_key: str, source: str | None = None) -> str:
    """Fingerprint of everything that the weights of a student depend on.

    A data-free method does not depend on the data unless it is validated on them, nor a method without teacher on the
    teacher unless it starts there.

    Args:
        recipe: the experiment.
        method: one of its methods.
        seed: the student's seed.
        teacher: fingerprint of the teacher.
        rows_key: fingerprint of the rows of data as the models see them.
        source: fingerprint of the model that it starts from, if that is its own architecture trained before.
    """
    baseline, training = recipe.methods[method], recipe.training_of(method)
    # Of the rows the key covers all splits. What was trained before there were these settings keeps its fingerprint.
    pairs = recipe.pairs_of(method)
    held_out = None if pairs is None else pairs.held_out
    validation = recipe.data is not None
    on = validated_on(training, baseline.objective, validation=validation, held_out=held_out)
    later: dict[str, object] = {"validation": rows_key} if on == "rows" else {}
    if pairs is not None:
        later |= {"pairs": pairs.essential(), "pairs_seed": derive_seed(recipe.seed, "pairs")}
    if wants_network(baseline.objective):
        later["features"] = rows_key
    if recipe.per_class is not None and uses_rows(recipe, method):
        later["per_class"] = recipe.per_class
    if source is not None:
        later["source"] = source
    if recipe.teacher_cache is not None and baseline.objective.needs_teacher:
        later |= recipe.teacher_cache.essential()
    if baseline.choices:  # of a plan: before a training they have been made
        later["choices"] = [baseline.choices, recipe.choice_share]
    return fingerprint(
        model=describe_model(recipe.student_of(method)), objective=describe_objective(baseline.objective), seed=seed,
        training=training.essential(), precision=recipe.trainer.precision,
        start=recipe.start_of(method), tasks=recipe.tasks, which=baseline.rows,
        teacher=teacher if uses_teacher(recipe, method) else None,
        rows=rows_key if uses_rows(recipe, method) else None, **later,
    )  # fmt: skip


def uses_rows(recipe: Recipe, method: str) -> bool:
    """Whether the training of a method sees rows of the data; recorded pairs have conditioning inputs of their own."""
    needed = recipe.methods[method].objective.needs_data
    return needed or (recipe.condition != "none" and recipe.pairs_of(method) is None)


def uses_teacher(recipe: Recipe, method: str) -> bool:
    """Whether a method's students depend on the teacher."""
    return recipe.methods[method].objective.needs_teacher or recipe.start_of(method) == "teacher"


@dataclass(frozen=True)
class TrainingStage:
    """One model to be trained.

    Attributes:
        template: its class and constructor arguments.
        objective: what to minimise.
        training: its optimisation.
        trainer: devices and precision.
        seed: fixes initialisation, order of data and noise.
        label: what to call it.
        key: fingerprint of all of these.
        teacher: the frozen model, if the objective compares with one.
        rows: the training data, if any are used.
        initial: the model whose weights it starts from; by default fresh ones.
        asked: conditioning inputs that the teacher is asked for, shape (inputs, ...); by default those of the rows.
        validation: rows to validate on, if the training says ``validate_every``.
        recorded: gives what takes the place of ``teacher``: it replays recorded pairs, or has its outputs kept. Asked
            only if something is left to do, since it makes what is missing.
        lasting: folders beside the model that are of use whatever the key; see :class:`Stage`.
    """

    template: DGM
    objective: Objective
    training: Training
    trainer: TrainerOptions
    seed: int
    label: str
    key: str
    teacher: DGM | None = None
    rows: Batch | None = None
    initial: DGM | None = None
    asked: Tensor | None = None
    validation: Batch | None = None
    recorded: Callable[[], DGM] | None = None
    lasting: Sequence[str] = ()

    def record(self, folder: Path) -> Stage:
        """The stage's record in a directory."""
        return Stage(folder, "training", self.key, self.lasting)

    def run(self, folder: Path, progress: Progress) -> tuple[DGM, dict[str, Any]]:
        """Train the model in a directory, continue where it stopped, or read it back.

        Args:
            folder: gets the model, its history and, until it is finished, its checkpoints.
            progress: told steps, losses and warnings.

        Returns:
            The model in eval mode, and what was measured while it was trained.

        Raises:
            LimbeckError: see :func:`limbeck.engine.fit`.
        """
        found = self.finished(folder, progress)
        if found is not None:
            return found
        with seeded(derive_seed(self.seed, "initialisation")):
            model = type(self.template)(**self.template.config)
        if self.initial is not None:
            _start(model, self.initial, self.label)
        return model, self.values(self.train(model, folder, progress))

    def finished(self, folder: Path, progress: Progress) -> tuple[DGM, dict[str, Any]] | None:
        """Claim a directory, and read back what is finished there.

        Args:
            folder: as for :meth:`run`.
            progress: told that it was kept, or that it cannot be read and is to be trained again.

        Returns:
            As :meth:`run`; ``None`` if something is left to do.
        """
        record = self.record(folder)
        record.begin(progress)
        values = record.result
        if values is None:
            return None
        try:
            model = type(self.template).from_pretrained(folder)
        except ModelError as error:
            progress.message(f"{self.label}: {error}; it is trained again.")
            record.reopen()
            return None
        progress.start(self.label, self.training.steps, self.training.steps)
        progress.advance(self.training.steps)
        if is_main_process():
            remove_checkpoints(folder)  # if the process was killed just before it did
        return model, values

    def train(self, model: DGM, folder: Path | None, progress: Progress) -> Fitted:
        """Train a model, in place, from where it stopped.

        Args:
            model: with the weights that it starts from.
            folder: as for :meth:`run`, claimed already; without, nothing is kept.
            progress: as for :meth:`run`.
        """
        teacher = self.teacher if self.recorded is None else self.recorded()
        fitted = fit(
            model, self.objective, self.training, teacher=teacher, data=self.rows, asked=self.asked,
            validation=self.validation, seed=self.seed, directory=folder, trainer=self.trainer, progress=progress,
            label=self.label,
        )  # fmt: skip
        if fitted.resumed_at:
            progress.message(f"{self.label}: continued from step {fitted.resumed_at}.")
        if folder is not None and is_main_process():
            model.save_pretrained(folder)
            fitted.history.write(folder / HISTORY)
            save_objective(self.objective, folder)
            self.record(folder).finish(self.values(fitted))
            remove_checkpoints(folder)
        return fitted

    def values(self, fitted: Fitted) -> dict[str, Any]:
        """What is recorded of a training."""
        values: dict[str, Any] = {"train_seconds": fitted.history.seconds}
        if self.training.validate_every is not None:
            values |= {"steps_taken": fitted.steps_taken, "best_step": fitted.best_step}
        return values


def _start(model: DGM, source: DGM, label: str) -> None:
    """Give a model the weights of another, as far as it takes them."""
    try:
        model.start_from(source)
    except ModelError as error:
        raise RecipeError(f"{label}: {error}") from None
