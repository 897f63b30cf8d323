"""The work of one process of a sweep: one model, or one point. The process may run on another machine."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from typing_extensions import override

from limbeck.engine.experiments.experiment import Experiment
from limbeck.engine.experiments.shared_stages import SharedStages
from limbeck.engine.stages.progress import LoggedProgress, Progress
from limbeck.engine.stages.ranks import RANK_VARIABLES
from limbeck.engine.sweeps.sweep_plan import Part, Point
from limbeck.errors import LimbeckError

__all__ = ["ReportingProgress", "Settings", "pack", "work"]

_EVERY = 0.5  # seconds between two reports of a process


@dataclass(frozen=True)
class Settings:
    """What all work of a sweep has in common.

    Attributes:
        name: name of the recipe.
        directory: directory of the sweep; absolute, and the same on every machine.
        cache: where extractors are kept.
        reports: where processes report their progress.
        working_directory: where the command was given; relative paths start there.
        paths: where the command's process finds modules, including the user's own.
        parent: number of the process that handed out the work.
        threads: number of threads per process; ``None`` changes nothing.
        dry_run: whether stages are cut short.
        finish: called with the directory of a finished point, e.g. to write its report page.
    """

    name: str
    directory: Path
    cache: Path
    reports: Path
    working_directory: str
    paths: tuple[str, ...]
    parent: int
    threads: int | None
    dry_run: bool
    finish: Callable[[Path], object] | None


def pack(point: Point) -> bytes:
    """A point as bytes, to be read after the worker's search path has the user's own modules, which they name."""
    found: bytes = cloudpickle.dumps(point)
    return found


def work(settings: Settings, packed: bytes, part: Part | None, report: str) -> str:
    """Train one model, or finish one point.

    Args:
        settings: what all work has in common.
        packed: the point, see :func:`pack`.
        part: the model; ``None`` for the whole point.
        report: name of the file for the progress report.

    Returns:
        The reason of a failure; empty for success. A failure at one point does not stop the others.
    """
    progress = ReportingProgress(settings.reports / report)
    with _set_up(settings):
        try:
            point: Point = cloudpickle.loads(packed)
        except Exception as found:  # whatever the user's modules raise when they are imported
            error = f"this process cannot read the recipe ({type(found).__name__}: {found}); does it have all modules?"
        else:
            error = _attempt(settings, point, part, progress)
    progress.end(error)
    return error


def _attempt(settings: Settings, point: Point, part: Part | None, progress: ReportingProgress) -> str:
    directory = settings.directory / point.name
    experiment = Experiment(
        point.recipe,
        resolved=point.resolved,
        name=settings.name,
        directory=directory,
        cache=settings.cache,
        command=point.command,
        progress=progress,
        dry_run=settings.dry_run,
        shared=SharedStages(settings.directory / "stages"),
    )
    try:
        if part is not None:
            experiment.train(part.method, part.seed)
        else:
            experiment.run()
            if settings.finish is not None:
                settings.finish(directory)
    except Exception as found:
        expected = isinstance(found, LimbeckError)
        error = str(found) if expected else f"{type(found).__name__}: {' '.join(str(found).split())}"
        if part is None:
            log = LoggedProgress(Progress(), directory / "log.txt")
            log.message(f"failed: {error}" if expected else traceback.format_exc())
        return error
    return ""


@contextlib.contextmanager
def _set_up(settings: Settings) -> Iterator[None]:
    """Give this process the command's directory and search path, and its share of the threads."""
    if os.getpid() == settings.parent:
        yield
        return
    # A launcher of a cluster gives each process a rank, but here each process works alone.
    for name in RANK_VARIABLES:
        os.environ.pop(name, None)
    os.chdir(settings.working_directory)
    sys.path.extend(path for path in settings.paths if path not in sys.path)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    yield


class ReportingProgress(Progress):
    """Reports progress in a small file: processes on other machines share nothing but the file system.

    Args:
        path: the file; it is replaced as a whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._messages: list[str] = []
        self._state: dict[str, Any] = {"label": "", "done": 0, "steps": 0, "messages": self._messages, "ended": False,
                                       "error": ""}  # fmt: skip
        self._written = 0.0
        self._write()

    @override
    def start(self, label: str, steps: int, done: int = 0) -> None:
        self._state |= {"label": label, "steps": steps, "done": done}
        self._write()

    @override
    def advance(self, step: int, loss: float | None = None) -> None:
        self._state["done"] = step
        if time.monotonic() - self._written > _EVERY:
            self._write()

    @override
    def message(self, text: str) -> None:
        self._messages.append(text)
        self._write()

    def end(self, error: str) -> None:
        """The work is done or, with an error, has failed."""
        self._state |= {"ended": True, "error": error}
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        aside = self.path.with_suffix(".new")
        # A report that cannot be written must not stop the work.
        with contextlib.suppress(OSError):
            aside.write_text(json.dumps(self._state), encoding="utf-8")
            os.replace(aside, self.path)
