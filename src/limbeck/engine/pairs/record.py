"""Recording a teacher in one call."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.pairs.pair_recording import recording
from limbeck.engine.pairs.pair_writing import fill
from limbeck.engine.pairs.recorded_teacher import RecordedTeacher
from limbeck.engine.settings.options import TrainerOptions
from limbeck.engine.settings.placement import running_device
from limbeck.engine.stages.progress import Progress

__all__ = ["record"]


def record(
    teacher: DGM,
    pairs: Pairs,
    directory: str | Path,
    *,
    seed: int = 0,
    inputs: Tensor | None = None,
    identity: str | None = None,
    trainer: TrainerOptions | None = None,
    progress: Progress | None = None,
    label: str = "pairs",
) -> RecordedTeacher:
    """Make the pairs of a teacher, or those that are missing, and return what replays them.

    Pairs are kept below a directory, under a fingerprint of the teacher. A second call with the same or a larger number
    makes only those that are missing. After an interruption at any moment a call continues, and several processes that
    record the same pairs share the work.

    Args:
        teacher: any model whose latents are standard normal and whose targets are Gaussians of a fixed scale.
        pairs: how many pairs, and how they are stored.
        directory: where pairs are kept.
        seed: fixes their noise.
        inputs: conditioning inputs, shape (inputs, ...), if the model has any; each pair gets a random one.
        identity: fingerprint of the teacher; by default that of its class, arguments and weights.
        trainer: has the device on which the teacher runs.
        progress: receives size, time and runs of the teacher.
        label: what to call this.

    Raises:
        ModelError: the teacher cannot be recorded, or makes numbers that are not finite.
        DataError: the directory holds something else.
        StorageError: the disk is full, or permission is missing.

    Example:
        ::

            pairs = limbeck.engine.Pairs(count=1_024_000, held_out=4096, dtype="uint8")
            recorded = limbeck.engine.record(teacher, pairs, "runs/cache/pairs")
            limbeck.distill(recorded, student, limbeck.methods.surrogate(0.0))
    """
    recorded = recording(teacher, pairs, Path(directory), seed=seed, inputs=inputs, identity=identity)
    device = running_device((trainer or TrainerOptions()).accelerator)
    fill(recorded, teacher, pairs, progress or Progress(), device, label)
    return RecordedTeacher(teacher, recorded, pairs.held_out_pages, pairs.training_pages, pairs.held_out_pages)
