"""Training one model with Lightning, from wherever it was interrupted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from torch import Tensor
from torch.utils.data import DataLoader

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.core.stand_in import StandIn
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.checks import check_batches, check_objective
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed, seeded
from limbeck.engine.training.checkpoints import Checkpoint, Checkpoints, find_checkpoint
from limbeck.engine.training.compiling import LossOfStep, compilation, compiled_loss, plain_loss
from limbeck.engine.training.finiteness import check_weights
from limbeck.engine.training.held_out import HeldOut, HeldOutRows, unseen_pairs
from limbeck.engine.training.history import History, HistoryRecorder
from limbeck.engine.training.loop import SameOnAllProcesses, interruptible, make_loop, quiet
from limbeck.engine.training.module import Companions, StudentModule
from limbeck.engine.training.preparation import prepared
from limbeck.engine.training.snapshots import SNAPSHOTS, Snapshots, shown_images
from limbeck.engine.training.stopping import check_stopping, validated_on
from limbeck.engine.training.validation import Validation
from limbeck.errors import RecipeError

__all__ = ["Fitted", "fit"]


@dataclass(frozen=True)
class Fitted:
    """Result of a training.

    Attributes:
        history: loss and terms over the steps.
        resumed_at: step of the checkpoint it continued from; 0 for a fresh start.
        steps_taken: all steps, or fewer if validation stopped the training.
        best_step: step whose weights the student has.
        validation: loss of these weights on validation rows or unseen pairs; ``None`` without validation.
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
    teacher_inputs: Tensor | None = None,
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
        teacher_inputs: conditioning inputs for the teacher, shape (inputs, ...), of which each row of each step gets a
            random one; by default those of the batch.
        validation: rows on which the student's own loss is measured, if the options say so.
        seed: fixes order of data and noise.
        directory: where to keep checkpoints. If it holds some, the training continues from them.
        trainer: devices, strategy, precision.
        progress: receives steps, losses and warnings.
        label: what to call this training.

    Returns:
        The history, and how the training ended.

    Raises:
        DataError: there are no rows of data, none to validate on, or no images to augment; or rows are no ``Batch``.
        RecipeError: the trainer options are not possible here, the batch size cannot be shared equally by the devices,
            or the student cannot be validated.
        ModelError: the student has no weights to train.
        CheckpointError: there are checkpoints but none can be read.
        CompilationError: the step is to be compiled, but cannot be.
        NonFiniteLossError: the loss or the weights became NaN or infinite.
    """
    trainer, progress = trainer or TrainerOptions(), progress or Progress()
    directory = None if directory is None else Path(directory)
    check_objective(objective)
    check_batches(label, data=data, validation=validation)
    kept_back = teacher.held_out_rows if isinstance(teacher, StandIn) else None
    check_stopping(options, student, objective, label, validation=validation is not None, held_out=kept_back)
    on = validated_on(options, objective, validation=validation is not None, held_out=kept_back)
    checkpoint = None if directory is None else find_checkpoint(directory, progress)
    batches = None
    if data is not None:
        batches = Batches(data, options.batch_size, derive_seed(seed, "data"), options.augmentation)
    companions = prepared(
        student, objective, Companions(teacher, batches, teacher_inputs), seed=seed, precision=trainer.precision,
        adapted=checkpoint is not None,
    )  # fmt: skip
    module = StudentModule(student, objective, companions, options, seed, _loss_of(options, progress, label))
    history = History()
    average = None if options.ema is None else EMAWeightAveraging(decay=options.ema)
    held_out = _held_out(on, companions.teacher, validation, options)
    watching = None if held_out is None else Validation(held_out, options, progress, average)
    # Each sees what the one before has done: averaged weights are validated, the validation is recorded, all is kept.
    callbacks: list[Callback] = [callback for callback in (average, watching) if callback is not None]
    callbacks += [SameOnAllProcesses(), HistoryRecorder(history, options.log_every, progress, watching)]
    if directory is not None:
        shown = data if validation is None else validation
        callbacks += _files(directory, companions.teacher, shown, options, progress)
    with seeded(derive_seed(seed, "fit")), _only_needed_gradients(student, objective):
        taken = _run(module, callbacks, trainer, checkpoint, progress, label)
    check_weights(module, taken)
    student.cpu().eval()
    if companions.teacher is not None:
        companions.teacher.cpu()
    resumed_at = 0 if checkpoint is None else checkpoint.step
    if watching is None:
        return Fitted(history, resumed_at, taken, taken)
    _tell(watching, taken, progress, label)
    return Fitted(history, resumed_at, taken, watching.best_step, watching.best)


def _loss_of(options: Training, progress: Progress, label: str) -> LossOfStep:
    """What computes the loss of a step: compiled, if the options say so."""
    if not options.compile:
        return plain_loss
    uncompiled = f"{label}: the step runs uncompiled, since torch cannot make one program of it"
    return compiled_loss(lambda reason: progress.message(f"{uncompiled}: {reason}"))


def _held_out(
    on: Literal["rows", "pairs"] | None, teacher: DGM | None, validation: Batch | None, options: Training
) -> HeldOut | None:
    """What a training is validated on, if it is."""
    if on == "pairs" and teacher is not None:
        return unseen_pairs(teacher, options.batch_size)
    if on == "rows" and validation is not None:
        return HeldOutRows(validation, options.batch_size)
    return None


def _files(
    directory: Path, teacher: DGM | None, rows: Batch | None, options: Training, progress: Progress
) -> Iterator[Callback]:
    """The callbacks that write files: maps of the first of some rows, if they are wanted, and checkpoints."""
    images = shown_images(rows) if options.snapshots else None
    if images is not None and teacher is not None:
        yield Snapshots(directory / SNAPSHOTS, teacher, images, options)
    yield Checkpoints(directory, options.checkpoint_every, progress)


def _run(
    module: StudentModule,
    callbacks: list[Callback],
    trainer: TrainerOptions,
    checkpoint: Checkpoint | None,
    progress: Progress,
    label: str,
) -> int:
    """Run the training from where it stopped; return the number of the last step."""
    options = module.options
    with quiet():
        loop = make_loop(options, trainer, callbacks)
        if options.batch_size % loop.world_size:
            raise RecipeError(
                f"batch_size {options.batch_size} cannot be shared equally by {loop.world_size} devices; choose a "
                "multiple"
            )
        progress.start(label, options.steps, 0 if checkpoint is None else checkpoint.step)
        module.student.train()
        # The loader only counts steps; rows and noise are functions of the step.
        counter: DataLoader[Any] = DataLoader(range(options.steps), batch_size=None)  # type: ignore[arg-type]
        if options.compile:
            progress.message(f"{label}: compiling the step; until that is done, nothing moves")
        with interruptible(loop), compilation(options.compile):
            path = None if checkpoint is None else checkpoint.path
            loop.fit(module, counter, ckpt_path=path, weights_only=None if path is None else True)
    return loop.global_step


def _tell(watching: Validation, taken: int, progress: Progress, label: str) -> None:
    """Report which weights were kept, and whether the training stopped early."""
    stopped = watching.stopped_at is not None
    if stopped:
        progress.stop(taken)
    progress.message(
        f"{label}: {'stopped' if stopped else 'done'} after {taken} steps; best on {watching.held_out.name} at step "
        f"{watching.best_step}: {watching.best:.6g}"
    )


@contextlib.contextmanager
def _only_needed_gradients(student: DGM, objective: Objective) -> Iterator[None]:
    """Freeze an inference network that nothing trains: DDP would wait for its gradients for ever."""
    idle = [] if objective.trains_inference else [p for p in student.inference_parameters() if p.requires_grad]
    for parameter in idle:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in idle:
            parameter.requires_grad_(True)
