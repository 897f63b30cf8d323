"""Training one model of a run as a stage: it is done, continued where it stopped, or read back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.engine.evaluations.evaluation import LEARNED_PARAMETERS
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.ranks import is_main_process
from limbeck.engine.stages.seeding import derive_seed, seeded
from limbeck.engine.stages.stage import Stage
from limbeck.engine.training.checkpoints import CHECKPOINTS, remove_checkpoints
from limbeck.engine.training.fit import Fitted, fit
from limbeck.engine.training.objective_files import save_objective
from limbeck.errors import ModelError, RecipeError
from limbeck.metrics import parameter_count

__all__ = ["HISTORY", "TrainingStage"]

HISTORY = "history.csv"
"""Name of the file beside a model that holds its losses over the steps."""


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
        teacher_inputs: conditioning inputs that the teacher gets, shape (inputs, ...); by default those of the rows.
        validation: rows to validate on, if the training has ``validate_every``.
        stand_in: makes what takes the place of ``teacher``: one that replays recorded pairs or reads stored outputs. It
            is called only if there are steps left to do, because it makes the pairs or outputs that are missing.
        lasting: folders beside the model that stay, whatever the key; see :class:`Stage`.
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
    teacher_inputs: Tensor | None = None
    validation: Batch | None = None
    stand_in: Callable[[], DGM] | None = None
    lasting: Sequence[str] = ()

    def record(self, folder: Path) -> Stage:
        """The stage's record in a directory."""
        return Stage(folder, "training", self.key, self.lasting)

    def run(self, folder: Path, progress: Progress) -> tuple[DGM, dict[str, Any]]:
        """Train the model in a directory, continue where it stopped, or read it back.

        Args:
            folder: gets the model, its history and, until it is finished, its checkpoints.
            progress: receives steps, losses and warnings.

        Returns:
            The model in eval mode, and what was measured while it was trained.

        Raises:
            LimbeckError: see :func:`limbeck.engine.fit`.
        """
        with self.record(folder).restored_on_failure(CHECKPOINTS, progress):
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
            progress: receives that the model was kept, or that it cannot be read and is trained again.

        Returns:
            As for :meth:`run`; ``None`` if there are steps left to do.
        """
        record = self.record(folder)
        record.begin(progress)
        values = record.result
        if values is None:
            return None
        try:
            model = type(self.template).from_pretrained(folder)
        except ModelError as error:
            progress.message(f"{self.label}: {error}; it is trained again")
            record.reopen()
            return None
        progress.skip(self.label, self.training.steps)
        if is_main_process():
            remove_checkpoints(folder)  # they are still there if the process was killed before it removed them
        return model, values

    def train(self, model: DGM, folder: Path | None, progress: Progress) -> Fitted:
        """Train a model in place, from the step where its training stopped.

        Args:
            model: has the weights that the training starts from.
            folder: as for :meth:`run`, claimed already; ``None`` to keep nothing.
            progress: as for :meth:`run`.
        """
        teacher = self.teacher if self.stand_in is None else self.stand_in()
        fitted = fit(
            model, self.objective, self.training, teacher=teacher, data=self.rows, teacher_inputs=self.teacher_inputs,
            validation=self.validation, seed=self.seed, directory=folder, trainer=self.trainer, progress=progress,
            label=self.label,
        )  # fmt: skip
        if fitted.resumed_at:
            progress.message(f"{self.label}: continued from step {fitted.resumed_at}")
        if folder is not None and is_main_process():
            model.save_pretrained(folder)
            fitted.history.write(folder / HISTORY)
            save_objective(self.objective, folder)
            self.record(folder).finish(self.values(fitted))
            remove_checkpoints(folder)
        return fitted

    def values(self, fitted: Fitted) -> dict[str, Any]:
        """What the record of a training says."""
        values: dict[str, Any] = {"train_seconds": fitted.history.seconds, **self.learned_beside()}
        if self.training.validate_every is not None:
            values |= {"steps_taken": fitted.steps_taken, "best_step": fitted.best_step}
        return values

    def learned_beside(self) -> dict[str, float]:
        """The number of parameters that the objective learned beside the model, if any."""
        count = parameter_count(parameter for parameter in self.objective.parameters() if parameter.requires_grad)
        return {LEARNED_PARAMETERS.key: float(count)} if count else {}


def _start(model: DGM, source: DGM, label: str) -> None:
    """Give a model the weights of another, as far as the two fit."""
    try:
        model.start_from(source)
    except ModelError as error:
        raise RecipeError(f"{label}: {error}") from None
