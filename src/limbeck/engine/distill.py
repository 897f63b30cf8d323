"""Distillation in one call."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.methods import surrogate
from limbeck.core.objective import Objective
from limbeck.engine.caching.teacher_cache import TeacherCache
from limbeck.engine.experiments.training_stage import HISTORY, TrainingStage
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.settings.checks import check_batches
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.terminal_progress import TerminalProgress
from limbeck.engine.training.checkpoints import CHECKPOINTS
from limbeck.engine.training.fit import Fitted
from limbeck.engine.training.history import History
from limbeck.engine.training.teaching import Teaching
from limbeck.metrics import parameter_count

__all__ = ["Distilled", "distill"]

_PAIRS = "pairs"
_OUTPUTS = "teacher"
"""Folders beside a student, of recorded pairs and of a teacher's outputs; each teacher has its own key there."""


@dataclass(frozen=True)
class Distilled:
    """Result of :func:`distill`.

    Attributes:
        student: the trained student, in eval mode: the same object that was given.
        history: loss and terms over the steps.
        metrics: last loss and terms, seconds, and the numbers of parameters of both generative parts.
        objective: the copy of the objective that was trained with the student, with what it has learned in
            ``objective.learned`` and in its coupling. If a finished distillation was only read back, it has learned
            nothing; its weights are then in ``objective.safetensors`` beside the student.
    """

    student: DGM
    history: History
    metrics: dict[str, float]
    objective: Objective


def distill(
    teacher: DGM,
    student: DGM,
    objective: Objective | None = None,
    *,
    data: Batch | None = None,
    teacher_inputs: Tensor | None = None,
    validation: Batch | None = None,
    steps: int = 1000,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    training: Training | None = None,
    trainer: TrainerOptions | None = None,
    seed: int = 0,
    directory: str | Path | None = None,
    pairs: Pairs | None = None,
    teacher_cache: TeacherCache | None = None,
    cache: str | Path | None = None,
    progress: bool | Progress = True,
) -> Distilled:
    """Train a student on a teacher.

    The teacher and the objective are left as they are: a copy of the teacher, prepared for inference, does the work,
    and what an objective learns beside the student is learned by a copy, :attr:`Distilled.objective`.

    Args:
        teacher: the trained model, or what :func:`limbeck.engine.record` or :func:`limbeck.engine.cached` made of one.
        student: the model to train, in place.
        objective: what to minimise; by default :func:`limbeck.methods.surrogate`.
        data: rows of real data, if the models are conditioned or the objective has a loss on data. By default only the
            teacher's samples are used.
        teacher_inputs: conditioning inputs for the teacher, shape (inputs, ...), of which each row gets a random one;
            by default those of ``data``.
        validation: rows to choose the best weights by, if ``training`` has ``validate_every``. Without them, a student
            that sees no data is validated on draws of the teacher that it does not learn from.
        steps: optimiser steps.
        batch_size: rows per step.
        learning_rate: of Adam.
        training: all settings of the optimisation; replaces the three before.
        trainer: devices, strategy, precision.
        seed: fixes noise and order of data; initialise the student yourself.
        directory: where to keep checkpoints and the finished student. Called again with the same models, rows and
            settings, an interrupted distillation continues there.
        pairs: which pairs of noise and result the teacher makes once, to learn from them again and again. By default
            the teacher runs in each step.
        teacher_cache: how the teacher's outputs on all rows of ``data``, computed once, are stored, for classifiers
            whose inputs repeat. By default they are not.
        cache: where these pairs or outputs are kept; by default below ``directory``, where they stay when settings
            change.
        progress: whether to show a bar, or what receives the reports instead.

    Returns:
        The student with its history.

    Raises:
        DataError: the rows are no ``Batch`` of tensors.
        RecipeError: there is no place for the pairs or outputs, or the student cannot be validated.
        LimbeckError: see :func:`limbeck.engine.fit`, :func:`limbeck.engine.record` and
            :func:`limbeck.engine.cached`.

    Example:
        ::

            teacher = limbeck.DGM.from_pretrained("runs/ladder-vae-digits/default/teacher")
            student = limbeck.models.LadderVAE(**{**teacher.config, "width": 8})
            limbeck.distill(teacher, student, steps=2000).student.save_pretrained("student")
    """
    check_batches("distilling", data=data, validation=validation)
    objective = surrogate() if objective is None else copy.deepcopy(objective)
    training = training or Training(steps=steps, batch_size=batch_size, learning_rate=learning_rate)
    folder = None if directory is None else Path(directory)
    teaching = Teaching(
        teacher, objective, training, trainer, seed, data, teacher_inputs, pairs, teacher_cache,
        _place(cache, folder, _PAIRS if pairs is not None else _OUTPUTS),
    )  # fmt: skip
    teaching.check()
    key = "" if folder is None else teaching.key(student, validation)
    with _reported(progress) as reports:
        stage = _Distillation(
            student, objective, training, trainer or TrainerOptions(), seed, "distilling", key, rows=teaching.rows,
            teacher_inputs=teacher_inputs, validation=validation, lasting=(_PAIRS, _OUTPUTS),
            stand_in=functools.partial(teaching.make_teacher, reports) if objective.needs_teacher else None,
        )  # fmt: skip
        metrics, history = stage.result(folder, reports)
    for name, model in (("student", student), ("teacher", teacher)):
        metrics[f"parameters_{name}"] = float(parameter_count(model.generative_parameters()))
    return Distilled(student, history, metrics, objective)


class _Distillation(TrainingStage):
    """A training whose record has the last row of its history, and whose template is the student itself."""

    @override
    def values(self, fitted: Fitted) -> dict[str, float]:
        """Loss and terms, seconds, and the number of parameters that were learned beside the student."""
        last = {name: value for name, value in fitted.history.rows[-1].items() if name not in ("step", "learning_rate")}
        return {**last, **self.learned_beside()}

    def result(self, folder: Path | None, progress: Progress) -> tuple[dict[str, float], History]:
        """Train the student, in place, or give it the weights that it was trained to before.

        Args:
            folder: where the training is kept; ``None`` to keep nothing.
            progress: receives steps, losses and warnings.

        Returns:
            As recorded, and the history.
        """
        if folder is None:
            fitted = self.train(self.template, None, progress)
            return self.values(fitted), fitted.history
        record = self.record(folder)
        with record.restored_on_failure(CHECKPOINTS, progress), record.held(progress):
            finished = self.finished(folder, progress)
            if finished is None:
                fitted = self.train(self.template, folder, progress)
                return self.values(fitted), fitted.history
            model, metrics = finished
            _take_weights(self.template, model)
            return metrics, History.read(folder / HISTORY)


def _take_weights(student: DGM, finished: DGM) -> None:
    """Give a student the weights of its finished training, in the precision of that training."""
    for own, kept in zip(student.parameters(), finished.parameters(), strict=True):
        own.data = kept.data
    student.load_state_dict(finished.state_dict())
    student.eval()


def _place(cache: str | Path | None, folder: Path | None, name: str) -> Path | None:
    """Where pairs or outputs are kept: in a place of their own, or below a student's folder."""
    if cache is not None:
        return Path(cache)
    return None if folder is None else folder / name


@contextlib.contextmanager
def _reported(progress: bool | Progress) -> Iterator[Progress]:
    """What receives the reports: a bar, nothing, or what was given."""
    if progress is True:
        with TerminalProgress() as bar:
            yield bar
    else:
        yield Progress() if progress is False else progress
