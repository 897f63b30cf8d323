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
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.pairs.record import record
from limbeck.engine.pairs.recorded import RecordedTeacher
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.stages.environment import is_main_process
from limbeck.engine.stages.fingerprints import fingerprint, weights_fingerprint
from limbeck.engine.stages.model_description import describe_model
from limbeck.engine.stages.objective_description import describe_objective
from limbeck.engine.stages.progress import Progress, SilentProgress, TerminalProgress
from limbeck.engine.stages.seeding import derive_seed
from limbeck.engine.stages.stage import Stage
from limbeck.engine.teachers.prepare import prepare
from limbeck.engine.training.checkpoints import remove_checkpoints
from limbeck.engine.training.fit import fit
from limbeck.engine.training.history import History
from limbeck.engine.training.objective_files import save_objective
from limbeck.errors import RecipeError
from limbeck.metrics import parameter_count

__all__ = ["Distilled", "distill"]


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
        directory: where to keep checkpoints and the finished student. Called again with the same models and settings,
            an interrupted distillation continues there.
        pairs: what the teacher makes once, to learn from it over and over, rather than that it runs in each step.
        teacher_cache: whether and how the teacher's outputs on all rows of ``data`` are computed once and kept, for
            classifiers whose inputs repeat.
        cache: where these pairs or outputs are kept; by default below ``directory``.
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
    place = Path(cache) if cache is not None else None if folder is None else folder / ("pairs" if pairs else "teacher")
    if (pairs is not None or teacher_cache is not None) and place is None:
        what = "pairs are" if pairs is not None else "outputs of the teacher are"
        raise RecipeError(f"{what} kept on disk: give a directory, or cache=, the place for these alone")
    example = asked
    if asked is None and data is not None:
        example = Batches(data, 2, seed)(0).x
    with contextlib.ExitStack() as stack:
        teller: Progress = SilentProgress()
        if progress is True:
            teller = stack.enter_context(TerminalProgress())
        elif progress is not False:
            teller = progress
        stage = None
        if folder is not None:
            written_config(student)  # a student that cannot be saved is told of now, not when it has learned
            key = fingerprint(
                teacher=weights_fingerprint(teacher), student=describe_model(student), seed=seed,
                initial=weights_fingerprint(student), objective=describe_objective(objective), trainer=repr(trainer),
                training=training.essential(), **_replayed(teacher, pairs, asked), **_kept(teacher, teacher_cache),
            )  # fmt: skip
            stage = Stage(folder, "training", key)
            if stage.result is not None:
                finished = type(student).from_pretrained(folder)
                for own, kept in zip(student.parameters(), finished.parameters(), strict=True):
                    own.data = kept.data  # in the precision it was trained in
                student.load_state_dict(finished.state_dict())
                if is_main_process():
                    remove_checkpoints(folder)  # if the process was killed just before it did
                return Distilled(student.eval(), History.read(folder / "history.csv"), stage.result)
            stage.begin(teller)
        taught = None
        if objective.needs_teacher:
            taught = teacher if isinstance(teacher, RecordedTeacher | CachedTeacher) else prepare(teacher, example)
        rows = data
        if taught is not None and pairs is not None and place is not None:
            identity = fingerprint(model=describe_model(teacher), weights=weights_fingerprint(teacher))
            inputs = data.x if asked is None and data is not None else asked
            taught = record(
                taught, pairs, place, seed=derive_seed(seed, "pairs"), inputs=inputs, identity=identity,
                trainer=trainer, progress=teller,
            )  # fmt: skip
            rows = data if objective.needs_data else None  # else its conditioning inputs alone were wanted
        if taught is not None and teacher_cache is not None and data is not None and place is not None:
            taught = cached(
                taught, teacher_cache, [objective], data, place, training=training, trainer=trainer, progress=teller
            )
        fitted = fit(
            student, objective, training, data=rows, asked=asked, validation=validation, seed=seed, directory=folder,
            teacher=taught,
            trainer=trainer, progress=teller, label="distilling",
        )  # fmt: skip
        last = fitted.history.rows[-1]
        metrics = {key: value for key, value in last.items() if key not in ("step", "learning_rate")}
        metrics["parameters_student"] = float(parameter_count(student.generative_parameters()))
        metrics["parameters_teacher"] = float(parameter_count(teacher.generative_parameters()))
        if folder is not None and stage is not None and is_main_process():
            student.save_pretrained(folder)
            save_objective(objective, folder)
            fitted.history.write(folder / "history.csv")
            stage.finish(metrics)
            remove_checkpoints(folder)
    return Distilled(student, fitted.history, metrics)


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


def _replayed(teacher: DGM, pairs: Pairs | None, asked: Tensor | None) -> dict[str, object]:
    """What a student depends on besides its teacher's weights: what that is asked for, and whether it is recorded."""
    found: dict[str, object] = {} if asked is None else {"asked": asked.tolist()}
    if isinstance(teacher, RecordedTeacher):
        found["pairs"] = [teacher.recorded.store.layout.key, teacher.first, teacher.pages, teacher.held_out_pages]
    elif pairs is not None:
        found["pairs"] = pairs.essential()
    return found
