"""What one process of a sweep does: one model, or one point. It may run on another machine."""

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

from limbeck.engine.experiments.experiment import Experiment
from limbeck.engine.experiments.shared_stages import SharedStages
from limbeck.engine.stages.progress import LoggedProgress, SilentProgress
from limbeck.engine.sweeps.sweep_plan import Part, Point
from limbeck.errors import LimbeckError

__all__ = ["ReportingProgress", "Settings", "pack", "work"]

_EVERY = 0.5  # seconds between two reports of a process
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


@dataclass(frozen=True)
class Settings:
    """What all work of a sweep has in common.

    Attributes:
        name: name of the recipe.
        directory: directory of the sweep; absolute, and the same on every machine.
        cache: where extractors are kept.
        reports: where processes tell how far they are.
        working_directory: where the command was given: relative paths start there.
        paths: where the command's process finds modules, a user's own among them.
        parent: process that gave the work.
        threads: threads a process; ``None`` leaves them alone.
        dry_run: whether stages were cut short.
        finish: called with the directory of a finished point, e.g. to write its page.
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
    """A point as bytes. They are read once the process can import what they name: the user's own modules."""
    found: bytes = cloudpickle.dumps(point)
    return found


def work(settings: Settings, packed: bytes, part: Part | None, report: str) -> str:
    """Train one model, or finish one point.

    Args:
        settings: what is common.
        packed: the point.
        part: the model; ``None`` for the whole point.
        report: name of the file that tells how far it is.

    Returns:
        Why it failed; empty if it did not. Nothing that goes wrong at one point stops the others.
    """
    progress = ReportingProgress(settings.reports / report)
    with _at_home(settings):
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
        told = isinstance(found, LimbeckError)
        error = str(found) if told else f"{type(found).__name__}: {' '.join(str(found).split())}"
        if part is None:
            log = LoggedProgress(SilentProgress(), directory / "log.txt")
            log.message(f"failed: {error}" if told else traceback.format_exc())
        return error
    return ""


@contextlib.contextmanager
def _at_home(settings: Settings) -> Iterator[None]:
    """The process as the command's own one would be: its directory, its modules, its share of the threads."""
    if os.getpid() == settings.parent:
        yield
        return
    # A launcher that started the machines of a cluster gives each process a rank; here each works for itself.
    for name in _RANKS:
        os.environ.pop(name, None)
    os.chdir(settings.working_directory)
    sys.path.extend(path for path in settings.paths if path not in sys.path)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    yield


class ReportingProgress(SilentProgress):
    """Tells in a small file how far the work is: processes on other machines share nothing but the file system.

    Args:
        path: the file; whoever reads it sees a whole report.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._messages: list[str] = []
        self._state: dict[str, Any] = {"label": "", "done": 0, "steps": 0, "messages": self._messages, "ended": False,
                                       "error": ""}  # fmt: skip
        self._written = 0.0
        self._write()

    def start(self, label: str, steps: int, done: int = 0) -> None:
        """See :class:`Progress`."""
        self._state |= {"label": label, "steps": steps, "done": done}
        self._write()

    def advance(self, step: int, loss: float | None = None) -> None:
        """See :class:`Progress`."""
        self._state["done"] = step
        if time.monotonic() - self._written > _EVERY:
            self._write()

    def message(self, text: str) -> None:
        """See :class:`Progress`."""
        self._messages.append(text)
        self._write()

    def end(self, error: str) -> None:
        """The work is done, or has failed."""
        self._state |= {"ended": True, "error": error}
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        aside = self.path.with_suffix(".new")
        # A report that cannot be written must not stop the work.
        with contextlib.suppress(OSError):
            aside.write_text(json.dumps(self._state), encoding="utf-8")
            os.replace(aside, self.path)
