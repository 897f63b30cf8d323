"""Training one model: the one place where Lightning is driven."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from torch.utils.data import DataLoader

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.engine.batches import Batches
from limbeck.engine.checkpoints import Checkpoints, find_checkpoint
from limbeck.engine.history import History, HistoryRecorder
from limbeck.engine.module import Companions, StudentModule
from limbeck.engine.options import TrainerOptions, Training
from limbeck.engine.progress import Progress, SilentProgress
from limbeck.engine.seeding import derive_seed, seeded
from limbeck.errors import RecipeError

__all__ = ["Fitted", "fit"]


@dataclass(frozen=True)
class Fitted:
    """Result of a training.

    Attributes:
        history: loss and terms over the steps.
        resumed_at: step of the checkpoint it continued from; 0 for a fresh start.
    """

    history: History
    resumed_at: int


def fit(
    student: DGM,
    objective: Objective,
    options: Training,
    *,
    teacher: DGM | None = None,
    data: Batch | None = None,
    seed: int = 0,
    directory: Path | None = None,
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
        teacher: the frozen model, if the objective compares with one.
        data: all rows of the training data, or ``None`` for training on the teacher's samples alone.
        seed: fixes order of data and noise.
        directory: where to keep checkpoints; with one that holds checkpoints, the training continues from them.
        trainer: devices, strategy, precision.
        progress: told steps, losses and warnings.
        label: what to call this training.

    Returns:
        The history.

    Raises:
        RecipeError: the batch size cannot be shared equally by the devices.
        CheckpointError: there are checkpoints but none can be read.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    trainer = trainer or TrainerOptions()
    progress = progress or SilentProgress()
    batches = None if data is None else Batches(data, options.batch_size, derive_seed(seed, "data"))
    module = StudentModule(student, objective, Companions(teacher, batches), options, seed)
    history = History()
    callbacks: list[Callback] = []
    if options.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=options.ema))
    callbacks.append(HistoryRecorder(history, options.log_every, progress))
    checkpoint = None
    if directory is not None:
        checkpoint = find_checkpoint(directory, progress)
        callbacks.append(Checkpoints(directory, options.checkpoint_every, progress))
    with _quiet(), seeded(derive_seed(seed, "fit")), _only_needed_gradients(student, objective):
        loop = lightning.Trainer(
            max_steps=options.steps,
            max_epochs=-1,
            accelerator=trainer.accelerator,
            devices=trainer.devices,
            strategy=trainer.strategy,
            precision=trainer.precision,  # type: ignore[arg-type]
            num_nodes=trainer.num_nodes,
            gradient_clip_val=options.gradient_clip,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            inference_mode=False,
        )
        if options.batch_size % loop.world_size:
            raise RecipeError(
                f"batch_size {options.batch_size} cannot be shared equally by {loop.world_size} devices; choose a multiple"
            )
        resumed_at = 0 if checkpoint is None else _step_of(checkpoint)
        progress.start(label, options.steps, resumed_at)
        student.train()
        # The loader only counts steps; rows and noise are functions of the step.
        counter: DataLoader[Any] = DataLoader(range(options.steps), batch_size=None)  # type: ignore[arg-type]
        loop.fit(module, counter, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    student.cpu().eval()
    if teacher is not None:
        teacher.cpu()
    return Fitted(history, resumed_at)


def _step_of(checkpoint: Path) -> int:
    from limbeck.engine.checkpoints import read_checkpoint

    return int(read_checkpoint(checkpoint)["global_step"])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lightning tells what hardware it found and gives hints; a run has five stages a seed and says it itself."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _only_needed_gradients(student: DGM, objective: Objective) -> Iterator[None]:
    """Without data nothing trains the inference network; DDP would wait for its gradients for ever."""
    idle = [] if objective.needs_data else [p for p in student.inference_parameters() if p.requires_grad]
    for parameter in idle:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in idle:
            parameter.requires_grad_(True)
