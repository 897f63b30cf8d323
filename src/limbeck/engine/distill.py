"""Distillation in one call."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.methods import surrogate
from limbeck.core.objective import Objective
from limbeck.core.storage import written_config
from limbeck.engine.caching.cache_options import TeacherCache, check_repeated
from limbeck.engine.caching.filling import cached
from limbeck.engine.caching.teacher_cache import CachedTeacher
from limbeck.engine.experiments.training_stage import HISTORY, TrainingStage
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.pairs.record import record
from limbeck.engine.pairs.recorded import RecordedTeacher
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.stages.fingerprints import describe_tensor, fingerprint
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.objective_description import describe_objective
from limbeck.engine.stages.progress import Progress, SilentProgress, TerminalProgress
from limbeck.engine.stages.seeding import derive_seed
from limbeck.engine.teachers.prepare import prepare
from limbeck.engine.teachers.stand_in import StandIn
from limbeck.engine.training.fit import Fitted
from limbeck.engine.training.history import History
from limbeck.errors import RecipeError
from limbeck.metrics import parameter_count

__all__ = ["Distilled", "distill"]

_PAIRS = "pairs"
_OUTPUTS = "teacher"
"""Folders beside a student, of pairs and of the teacher's outputs: each teacher's under its own key."""


@dataclass(frozen=True)
class Distilled:
    """Result of :func:`distill`.

    Attributes:
        student: the trained student, in eval mode: the same object that was given.
        history: loss and terms over the steps.
        metrics: last loss and terms, seconds, and parameter counts of both generative parts.
    """

    student: DGM
    history: History
    metrics: dict[str, float]


def distill(
    teacher: DGM,
    student: DGM,
    objective: Objective | None = None,
    *,
    data: Batch | None = None,
    asked: Tensor | None = None,
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

    The teacher is left as it is; a copy of it, prepared for inference, does the work.

    Args:
        teacher: the trained model, or what :func:`limbeck.engine.record` or :func:`limbeck.engine.cached` made of one.
        student: the model to train, in place.
        objective: what to minimise; by default :func:`limbeck.methods.surrogate`.
        data: rows of real data, where the models are conditioned or the objective has a loss on data. Without, nothing
            but the teacher's samples is used.
        asked: conditioning inputs that the teacher is asked for, shape (inputs, ...), one of them drawn for each row;
            by default those of ``data``.
        validation: rows to choose the best weights by, where ``training`` says ``validate_every``. Without, a student
            that sees no data is validated on draws of the teacher that it does not learn from.
        steps: optimiser steps.
        batch_size: rows a step.
        learning_rate: of Adam.
        training: all settings of the optimisation; replaces the three before.
        trainer: devices, strategy, precision.
        seed: fixes noise and order of data; initialise the student yourself.
        directory: where to keep checkpoints and the finished student. Called again with the same models, rows and
            settings, an interrupted distillation continues there.
        pairs: what the teacher makes once, to learn from it over and over, rather than that it runs in each step.
        teacher_cache: whether and how the teacher's outputs on all rows of ``data`` are computed once and kept, for
            classifiers whose inputs repeat.
        cache: where these pairs or outputs are kept; by default below ``directory``, where they stay when settings
            change.
        progress: whether to show a bar, or what to tell instead.

    Returns:
        The student with its history.

    Raises:
        RecipeError: there is no place for the pairs or outputs, or the student cannot be validated.
        LimbeckError: see :func:`limbeck.engine.fit`, :func:`limbeck.engine.record` and
            :func:`limbeck.engine.cached`.

    Example:
        ::

            teacher = limbeck.DGM.from_pretrained("runs/ladder-vae-digits/default/teacher")
            student = limbeck.models.LadderVAE(**{**teacher.config, "width": 8})
            limbeck.distill(teacher, student, steps=2000).student.save_pretrained("student")
    """
    objective = surrogate() if objective is None else objective
    training = training or Training(steps=steps, batch_size=batch_size, learning_rate=learning_rate)
    folder = None if directory is None else Path(directory)
    _check_keeping(pairs, teacher_cache, asked, data, training)
    kept = _PAIRS if pairs is not None else _OUTPUTS
    place = Path(cache) if cache is not None else None if folder is None else folder / kept
    if (pairs is not None or teacher_cache is not None) and place is None:
        what = "pairs are" if pairs is not None else "outputs of the teacher are"
        raise RecipeError(f"{what} kept on disk: give a directory, or cache=, the place for these alone")
    replays = pairs is not None and objective.needs_teacher
    rows = None if replays and not objective.needs_data else data  # else its conditioning inputs alone are wanted
    inputs = data.x if replays and asked is None and data is not None else asked
    with contextlib.ExitStack() as stack:
        teller: Progress = SilentProgress()
        if progress is True:
            teller = stack.enter_context(TerminalProgress())
        elif progress is not False:
            teller = progress

        def taught() -> DGM:
            """What the student learns from; what is to be kept of it is made now, if it is not there."""
            if isinstance(teacher, RecordedTeacher | CachedTeacher):
                found: DGM = teacher
            else:
                found = prepare(teacher, Batches(data, 2, seed)(0).x if asked is None and data is not None else asked)
            if pairs is not None and place is not None:
                return record(
                    found, pairs, place, seed=derive_seed(seed, "pairs"), inputs=inputs, identity=model_key(teacher),
                    trainer=trainer, progress=teller,
                )  # fmt: skip
            if teacher_cache is not None and data is not None and place is not None:
                return cached(
                    found, teacher_cache, [objective], data, place, training=training, trainer=trainer, progress=teller
                )
            return found

        key = ""
        if folder is not None:
            written_config(student)  # a student that cannot be saved is told of now, not when it has learned
            watched = None if training.validate_every is None else validation
            key = fingerprint(
                teacher=model_key(teacher.source if isinstance(teacher, StandIn) else teacher), seed=seed,
                student=model_key(student), objective=describe_objective(objective), trainer=repr(trainer),
                training=training.essential(), data=_rows_told(rows), validation=_rows_told(watched),
                asked=None if inputs is None else describe_tensor(inputs), **_replayed(teacher, pairs),
                **_kept(teacher, teacher_cache),
            )  # fmt: skip
        stage = _Distillation(
            student, objective, training, trainer or TrainerOptions(), seed, "distilling", key, rows=rows, asked=asked,
            validation=validation, recorded=taught if objective.needs_teacher else None, lasting=(_PAIRS, _OUTPUTS),
        )  # fmt: skip
        finished = None
        if folder is not None:
            stack.enter_context(stage.record(folder).held(teller))
            finished = stage.finished(folder, teller)
        if folder is not None and finished is not None:
            model, metrics = finished
            _take_weights(student, model)
            history = History.read(folder / HISTORY)
        else:
            fitted = stage.train(student, folder, teller)
            metrics, history = stage.values(fitted), fitted.history
    for name, model in (("student", student), ("teacher", teacher)):
        metrics[f"parameters_{name}"] = float(parameter_count(model.generative_parameters()))
    return Distilled(student, history, metrics)


class _Distillation(TrainingStage):
    """A training of which the last row of the history is recorded."""

    def values(self, fitted: Fitted) -> dict[str, float]:
        """Loss and terms, and seconds."""
        last = fitted.history.rows[-1]
        return {name: value for name, value in last.items() if name not in ("step", "learning_rate")}


def _take_weights(student: DGM, finished: DGM) -> None:
    """Make a student what it was trained to be before, in the precision it was trained in."""
    for own, kept in zip(student.parameters(), finished.parameters(), strict=True):
        own.data = kept.data
    student.load_state_dict(finished.state_dict())
    student.eval()


def _check_keeping(
    pairs: Pairs | None,
    teacher_cache: TeacherCache | None,
    asked: Tensor | None,
    data: Batch | None,
    training: Training,
) -> None:
    if teacher_cache is None:
        return
    if pairs is not None or asked is not None:
        raise RecipeError("teacher_cache is for a teacher that is given the rows of data: not with pairs or asked")
    if data is None:
        raise RecipeError("teacher_cache: outputs are kept for rows of data; give data")
    check_repeated(data.x is not None, training.augmentation)


def _kept(teacher: DGM, teacher_cache: TeacherCache | None) -> dict[str, object]:
    """What a student depends on if outputs of its teacher are rounded."""
    if isinstance(teacher, CachedTeacher):
        return {"cached": teacher.store.key}
    return {} if teacher_cache is None else teacher_cache.essential()


def _replayed(teacher: DGM, pairs: Pairs | None) -> dict[str, object]:
    """What a student depends on if its teacher is recorded."""
    if isinstance(teacher, RecordedTeacher):
        return {"pairs": [teacher.recorded.store.layout.key, teacher.first, teacher.pages, teacher.held_out_pages]}
    return {} if pairs is None else {"pairs": pairs.essential()}


def _rows_told(rows: Batch | None) -> list[object]:
    """Rows of data as plain values for a fingerprint."""
    return [None if part is None else describe_tensor(part) for part in (rows.y, rows.x)] if rows is not None else []
