"""Recordings of a small sampler, and what they replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.pairs.record import record
from limbeck.engine.pairs.recorded_teacher import RecordedTeacher
from tests.sampler import Sampler
from tests.tiny import built

PAGE = 4
SHARD = 16
BATCH = 8


def pairs(**changes: Any) -> Pairs:
    return Pairs(**{"count": 60, "page_rows": PAGE, "shard_rows": SHARD, "batch_size": BATCH} | changes)


def recorded(directory: Path, teacher: Sampler | None = None, **changes: Any) -> RecordedTeacher:
    arguments = {key: changes.pop(key) for key in ("seed", "inputs", "progress") if key in changes}
    return record(built(Sampler) if teacher is None else teacher, pairs(**changes), directory, **arguments)


def everything(teacher: RecordedTeacher) -> Any:
    with teacher.reading(0, len(teacher)) as x:
        return teacher.trace(None if x is not None else len(teacher), x)
