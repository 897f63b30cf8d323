"""Reports of what long work is doing: stages, steps, losses, messages."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from typing_extensions import override

__all__ = ["LoggedProgress", "Progress"]


class Progress:
    """Receives reports of what is going on, and does nothing with them; the engine itself prints nothing.

    Subclasses override the methods for the reports that they show or keep.
    """

    def expect(self, steps: int) -> None:
        """All stages together will take ``steps`` steps."""

    def start(self, label: str, steps: int, done: int = 0) -> None:
        """A stage of ``steps`` steps begins; ``done`` of them were done before."""

    def advance(self, step: int, loss: float | None = None) -> None:
        """``step`` steps of the stage are done."""

    def validated(self, loss: float) -> None:
        """The loss on validation rows is now ``loss``."""

    def stop(self, step: int) -> None:
        """The stage ended early, after ``step`` steps; the steps that remain are not needed."""

    def message(self, text: str) -> None:
        """There is something that the user should read."""

    def skip(self, label: str, steps: int) -> None:
        """A stage of ``steps`` steps was finished before."""
        self.start(label, steps, steps)
        self.advance(steps)


class LoggedProgress(Progress):
    """Passes every report on, and appends stages and messages with the time to a file that all continuations share.

    Args:
        inner: receives the reports.
        path: the log file.
    """

    def __init__(self, inner: Progress, path: Path) -> None:
        self._inner = inner
        self._path = path

    @override
    def expect(self, steps: int) -> None:
        self._inner.expect(steps)

    @override
    def start(self, label: str, steps: int, done: int = 0) -> None:
        self._inner.start(label, steps, done)
        self._log(f"{label}: kept" if done == steps else f"{label}: steps {done} to {steps}")

    @override
    def advance(self, step: int, loss: float | None = None) -> None:
        self._inner.advance(step, loss)

    @override
    def validated(self, loss: float) -> None:
        self._inner.validated(loss)

    @override
    def stop(self, step: int) -> None:
        self._inner.stop(step)

    @override
    def message(self, text: str) -> None:
        self._inner.message(text)
        self._log(text)

    def _log(self, text: str) -> None:
        # A log that cannot be written must not stop the run.
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as handle:
            handle.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
