"""Recorded teachers that replay exact pairs, and which of these they replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.engine import Pairs, RecordedTeacher
from limbeck.engine.settings.options import Training
from tests.engine.pairs import recordings
from tests.sampler import Sampler

EXACT = {"count": 64, "batch_size": 16, "dtype": "float32"}


def pairs(**changes: Any) -> Pairs:
    return recordings.pairs(**EXACT | changes)


def recorded(directory: Path, teacher: Sampler | None = None, **changes: Any) -> RecordedTeacher:
    return recordings.recorded(directory, teacher, **EXACT | changes)


def options(**changes: Any) -> Training:
    return Training(**{"steps": 12, "batch_size": 8, "learning_rate": 0.01, "log_every": 4} | changes)


def numbers(teacher: RecordedTeacher) -> Tensor:
    with teacher.reading(0, len(teacher)) as x:
        return teacher.trace(None if x is not None else len(teacher), x)["x_T"].noise.flatten(1)


def places(rows: Tensor, among: Tensor) -> list[int]:
    """Which rows of ``among`` these are."""
    return [int((among == row).all(1).nonzero().item()) for row in rows.flatten(1)]
