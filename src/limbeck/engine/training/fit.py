"""Training one model with Lightning, from wherever it was interrupted."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader

from limbeck.core.coupling import frozen
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.engine.caching.teacher_cache import CachedTeacher
from limbeck.engine.pairs.recorded import RecordedTeacher
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.settings.precision import TRUE_PRECISION
from limbeck.engine.stages.progress import Progress, SilentProgress
from limbeck.engine.stages.seeding import derive_seed, seeded
from limbeck.engine.training.checkpoints import Checkpoints, find_checkpoint
from limbeck.engine.training.compiling import LossOfStep, compilation, compiled_loss, plain_loss
from limbeck.engine.training.history import History, HistoryRecorder
from limbeck.engine.training.loop import SameOnAllProcesses, interruptible, make_loop, quiet
from limbeck.engine.training.module import Companions, StudentModule
from limbeck.engine.training.snapshots import SNAPSHOTS, Snapshots, shown_images
from limbeck.engine.training.stopping import check_stopping, validated_on
from limbeck.engine.training.validation import Validation
from limbeck.engine.training.watched import UnseenPairs, ValidationRows
from limbeck.errors import DataError, RecipeError

__all__ = ["Fitted", "adapt", "fit"]

# Rows from which a student learns constants that depend on the data, and samples of a teacher that stand for them.
_ADAPTING = 10_000
_SAMPLES = 1000


@dataclass(frozen=True)
class Fitted:
    """Result of a training.

    Attributes:
        history: loss and terms over the steps.
        resumed_at: step of the checkpoint it continued from; 0 for a fresh start.
        steps_taken: all steps, or fewer if validation stopped the training.
        best_step: step whose weights the student has.
        validation: their loss on validation rows or unseen pairs; ``None`` without validation.
    """

    history: History
    resumed_at: int
    steps_taken: int
    best_step: int
    validation: float | None = None


def fit(
    student: DGM,
    objective: Objective,
    options: Training,
    *,
    teacher: DGM | None = None,
    data: Batch | None = None,
    asked: Tensor | None = None,
    validation: Batch | None = None,
    seed: int = 0,
    directory: str | Path | None = None,
    trainer: TrainerOptions | None = None,
    progress: Progress | None = None,
    label: str = "training",
) -> Fitted:
    """Minimise an objective over a student, in place.

    The caller's random state is left alone. Afterwards the student is in eval mode, on the CPU.

    Args:
        student: the model to train.
        objective: what to minimise.
        options: optimiser, steps, batch size.
        teacher: the frozen model, if the objective compares with one; it may be recorded
            (:class:`limbeck.engine.RecordedTeacher`) or cached (:func:`limbeck.engine.cached`).
        data: all rows of the training data, or ``None`` for training on the teacher's samples alone.
        asked: conditioning inputs that the teacher is asked for, shape (inputs, ...), one of them drawn for each row of
            each step; by default those of the batch.
        validation: rows on which the student's own loss is measured, where the options say so.
        seed: fixes order of data and noise.
        directory: where to keep checkpoints; with one that holds checkpoints, the training continues from them.
        trainer: devices, strategy, precision.
        progress: told steps, losses and warnings.
        label: what to call this training.

    Returns:
        The history.

    Raises:
        DataError: there are no rows of data, none to validate on, or no images to augment; or rows are no ``Batch``.
        RecipeError: the trainer options are not possible here, the batch size cannot be shared equally by the devices,
            or the student cannot be validated.
        ModelError: the student has no weights to train.
        CheckpointError: there are checkpoints but none can be read.
        CompilationError: the step is to be compiled, but cannot be.
        NonFiniteLossError: the loss or the weights became NaN or infinite.
    """
    trainer = trainer or TrainerOptions()
    progress = progress or SilentProgress()
    directory = None if directory is None else Path(directory)
    for name, rows in (("data", data), ("validation", validation)):
        if not isinstance(rows, Batch | None):
            raise DataError(
                f"{label}: {name} must be a limbeck.Batch, such as Batch(y=images), not {type(rows).__name__}"
            )
    held_out = teacher.held_out_rows if isinstance(teacher, RecordedTeacher) else None
    check_stopping(options, student, objective, label, validation=validation is not None, held_out=held_out)
    checkpoint = None if directory is None else find_checkpoint(directory, progress)
    batches = None
    if data is not None:
        batches = Batches(data, options.batch_size, derive_seed(seed, "data"), options.augmentation)
    with seeded(derive_seed(seed, "prepare")):
        source = teacher.source if isinstance(teacher, RecordedTeacher | CachedTeacher) else teacher
        # A cached teacher may be in the precision of the training already; the student is not yet.
        source = _in_precision_of(student, source) if isinstance(teacher, CachedTeacher) else source
        objective.prepare(source, student, _example(asked, batches, teacher))
        if checkpoint is None:
            adapt(student, teacher, _example(asked, batches, teacher), data)
    # Lightning would do it too, but only after the copy for the moving average is made, and not for the teacher.
    for trained in (student, objective):
        trained.to(TRUE_PRECISION.get(trainer.precision))
    teacher = _in_precision_of(student, teacher)
    loss_of: LossOfStep = plain_loss
    if options.compile:
        uncompiled = f"{label}: the step runs uncompiled, since torch cannot make one program of it"
        loss_of = compiled_loss(lambda reason: progress.message(f"{uncompiled}: {reason}"))
    module = StudentModule(student, objective, Companions(teacher, batches, asked), options, seed, loss_of)
    history = History()
    average = None if options.ema is None else EMAWeightAveraging(decay=options.ema)
    watched = None
    validated = validated_on(options, objective, validation=validation is not None, held_out=held_out)
    if validated == "pairs" and teacher is not None:
        watched = Validation(UnseenPairs(teacher, options.batch_size), options, progress, average)
    elif validated == "rows" and validation is not None:
        watched = Validation(ValidationRows(validation, options.batch_size), options, progress, average)
    # Each sees what the one before has done: averaged weights are validated, the validation is recorded, all is kept.
    callbacks: list[Callback] = [callback for callback in (average, watched) if callback is not None]
    callbacks.append(SameOnAllProcesses())
    callbacks.append(HistoryRecorder(history, options.log_every, progress, watched))
    images = shown_images(data if validation is None else validation) if options.snapshots else None
    if directory is not None and images is not None and teacher is not None:
        callbacks.append(Snapshots(directory / SNAPSHOTS, teacher, images, options))
    if directory is not None:
        callbacks.append(Checkpoints(directory, options.checkpoint_every, progress))
    with quiet(), seeded(derive_seed(seed, "fit")), _only_needed_gradients(student, objective):
        loop = make_loop(options, trainer, callbacks)
        if options.batch_size % loop.world_size:
            raise RecipeError(
                f"batch_size {options.batch_size} cannot be shared equally by {loop.world_size} devices; choose a "
                "multiple"
            )
        resumed_at = 0 if checkpoint is None else _step_of(checkpoint)
        progress.start(label, options.steps, resumed_at)
        student.train()
        # The loader only counts steps; rows and noise are functions of the step.
        counter: DataLoader[Any] = DataLoader(range(options.steps), batch_size=None)  # type: ignore[arg-type]
        if options.compile:
            progress.message(f"{label}: compiling the step; until that is done, nothing moves")
        with interruptible(loop), compilation(options.compile):
            loop.fit(module, counter, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    taken = loop.global_step
    module.check_weights(taken)
    student.cpu().eval()
    if teacher is not None:
        teacher.cpu()
    if watched is None:
        return Fitted(history, resumed_at, taken, taken)
    _tell(watched, taken, progress, label)
    return Fitted(history, resumed_at, taken, watched.best_step, watched.best)


def _tell(watched: Validation, taken: int, progress: Progress, label: str) -> None:
    stopped = watched.stopped_at is not None
    if stopped:
        progress.stop(taken)
    progress.message(
        f"{label}: {'stopped' if stopped else 'done'} after {taken} steps; best on {watched.watched.name} at step "
        f"{watched.best_step}: {watched.best:.6g}"
    )


@torch.no_grad()
def adapt(student: DGM, teacher: DGM | None, x: Tensor | None, data: Batch | None) -> None:
    """Let a student set the constants that depend on the data: from the data or, without any, the teacher's samples.

    Args:
        student: see :meth:`limbeck.DGM.adapt`.
        teacher: the frozen model, if there is one.
        x: conditioning inputs to ask the teacher for, shape (rows, ...), if the models have any.
        data: all rows of the training data, if any are used.
    """
    if type(student).adapt is DGM.adapt:
        return
    if data is not None:
        student.adapt(Batches(data, min(len(data), _ADAPTING), 0)(0))
    elif teacher is not None:
        with frozen(teacher):
            targets = teacher.trace(_SAMPLES if x is None else None, x).targets
        student.adapt(Batch(teacher.join_targets(targets), x))


def _example(asked: Tensor | None, batches: Batches | None, teacher: DGM | None) -> Tensor | None:
    """Conditioning inputs as they are seen in training, shape (rows, ...)."""
    if isinstance(teacher, RecordedTeacher):
        return teacher.choose(_SAMPLES)
    if asked is not None:
        return asked
    return None if batches is None else batches(0).x


def _in_precision_of(student: nn.Module, teacher: DGM | None) -> DGM | None:
    """The teacher, or a copy of it where its numbers have another precision than the student's."""
    wanted = {parameter.dtype for parameter in student.parameters() if parameter.is_floating_point()}
    if teacher is None or len(wanted) != 1:
        return teacher
    dtype = wanted.pop()
    if all(tensor.dtype == dtype for tensor in teacher.state_dict().values() if tensor.is_floating_point()):
        return teacher
    return copy.deepcopy(teacher).to(dtype)


def _step_of(checkpoint: Path) -> int:
    from limbeck.engine.training.checkpoints import read_checkpoint

    return int(read_checkpoint(checkpoint)["global_step"])


@contextlib.contextmanager
def _only_needed_gradients(student: DGM, objective: Objective) -> Iterator[None]:
    """Where nothing trains the inference network, DDP would wait for its gradients for ever."""
    idle = [] if objective.trains_inference else [p for p in student.inference_parameters() if p.requires_grad]
    for parameter in idle:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in idle:
            parameter.requires_grad_(True)
