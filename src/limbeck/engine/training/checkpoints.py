"""Checkpoints of a training in progress: two generations, each written aside and renamed."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from limbeck.engine.stages.progress import Progress
from limbeck.engine.training.finiteness import check_weights
from limbeck.errors import CheckpointError, StorageError
from limbeck.files import atomic_write_bytes

__all__ = [
    "CHECKPOINTS",
    "LAST",
    "NEXT",
    "PREVIOUS",
    "Checkpoint",
    "Checkpoints",
    "find_checkpoint",
    "read_checkpoint",
    "remove_checkpoints",
]

NEXT = "next.ckpt"
"""Name of a new checkpoint before it takes the place of the last one."""

LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"

CHECKPOINTS = (NEXT, LAST, PREVIOUS)
"""Names of all of them, the newest first."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that can be read.

    Attributes:
        path: its file.
        step: the step after which it was written.
    """

    path: Path
    step: int


class Checkpoints(Callback):
    """Writes ``last.ckpt`` at regular intervals and keeps the one before as ``previous.ckpt``.

    A full disk is reported and training goes on: the checkpoints that exist stay as they are.

    Args:
        directory: where to write.
        every: steps between checkpoints.
        progress: receives reports of failures.
    """

    def __init__(self, directory: Path, every: int, progress: Progress) -> None:
        self.directory = directory
        self.every = every
        self.progress = progress
        self._written = 0

    @override
    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        """Write when it is time; not after the last step, which the finished model follows."""
        step = trainer.global_step
        last = trainer.should_stop or step >= trainer.max_steps
        if step % self.every == 0 and step != self._written and not last:
            self._written = step
            check_weights(module, step)
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            if trainer.is_global_zero:
                self._write(checkpoint, step)

    def _write(self, checkpoint: dict[str, Any], step: int) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        last = self.directory / LAST
        fresh = self.directory / NEXT
        try:
            atomic_write_bytes(fresh, buffer.getvalue())
            if last.exists():
                os.replace(last, self.directory / PREVIOUS)
            os.replace(fresh, last)
        except (StorageError, OSError) as error:
            fresh.unlink(missing_ok=True)
            self.progress.message(f"Warning: no checkpoint at step {step}: {error} Training goes on.")


def find_checkpoint(directory: Path, progress: Progress) -> Checkpoint | None:
    """The newest checkpoint that can be read.

    Args:
        directory: where :class:`Checkpoints` wrote.
        progress: receives the names of damaged files that were passed over.

    Returns:
        The checkpoint, or ``None`` if there is none at all.

    Raises:
        CheckpointError: there are checkpoints, but none can be read.
    """
    damaged = []
    for name in CHECKPOINTS:
        path = directory / name
        if not path.exists():
            continue
        try:
            step = int(read_checkpoint(path)["global_step"])
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        for text in damaged:
            progress.message(f"Warning: {text}; continuing from {path} instead.")
        return Checkpoint(path, step)
    if damaged:
        raise CheckpointError(f"{'; '.join(damaged)}. Delete {directory} to start this stage again.")
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Raises:
        CheckpointError: the file is truncated or otherwise damaged.
    """
    try:
        with path.open("rb") as handle, warnings.catch_warnings(action="ignore"):
            found: dict[str, Any] = torch.load(handle, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different type for each kind of damage
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"checkpoint {path} is damaged ({reason})") from None
    return found


def remove_checkpoints(directory: Path) -> None:
    """Delete checkpoints that a finished model has made useless."""
    for name in CHECKPOINTS:
        (directory / name).unlink(missing_ok=True)
