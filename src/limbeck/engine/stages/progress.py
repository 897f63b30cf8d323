"""What a user sees while something long runs: stages, steps, loss, time left."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

__all__ = ["LoggedProgress", "Progress", "SilentProgress", "TerminalProgress", "amount", "duration"]


class Progress(Protocol):
    """Receives what is going on; the engine itself prints nothing."""

    def expect(self, steps: int) -> None:
        """All stages together will have ``steps`` steps."""

    def start(self, label: str, steps: int, done: int = 0) -> None:
        """A stage of ``steps`` steps begins, of which ``done`` were done before."""

    def advance(self, step: int, loss: float | None = None) -> None:
        """``step`` steps of the stage are done."""

    def validated(self, loss: float) -> None:
        """The loss on validation rows, now."""

    def stop(self, step: int) -> None:
        """The stage is done after ``step`` steps: it needs no more."""

    def message(self, text: str) -> None:
        """Something the user should read."""


class SilentProgress:
    """Says nothing."""

    def expect(self, steps: int) -> None:
        """See :class:`Progress`."""

    def start(self, label: str, steps: int, done: int = 0) -> None:
        """See :class:`Progress`."""

    def advance(self, step: int, loss: float | None = None) -> None:
        """See :class:`Progress`."""

    def validated(self, loss: float) -> None:
        """See :class:`Progress`."""

    def stop(self, step: int) -> None:
        """See :class:`Progress`."""

    def message(self, text: str) -> None:
        """See :class:`Progress`."""


class LoggedProgress:
    """Passes everything on, and keeps stages and messages in a file: what happened, when, over all continuations.

    Args:
        inner: what shows it.
        path: the log, appended to.
    """

    def __init__(self, inner: Progress, path: Path) -> None:
        self._inner = inner
        self._path = path

    def expect(self, steps: int) -> None:
        """See :class:`Progress`."""
        self._inner.expect(steps)

    def start(self, label: str, steps: int, done: int = 0) -> None:
        """See :class:`Progress`."""
        self._inner.start(label, steps, done)
        self._log(f"{label}: kept" if done == steps else f"{label}: steps {done} to {steps}")

    def advance(self, step: int, loss: float | None = None) -> None:
        """See :class:`Progress`."""
        self._inner.advance(step, loss)

    def validated(self, loss: float) -> None:
        """See :class:`Progress`."""
        self._inner.validated(loss)

    def stop(self, step: int) -> None:
        """See :class:`Progress`."""
        self._inner.stop(step)

    def message(self, text: str) -> None:
        """See :class:`Progress`."""
        self._inner.message(text)
        self._log(text)

    def _log(self, text: str) -> None:
        # A log that cannot be written must not stop the run that it tells of.
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as handle:
            handle.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


class TerminalProgress:
    """A bar for the stage and one for the whole run, with time left; plain lines where the output is not a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]:>14}"),
            TextColumn("{task.fields[validation]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._total = self._bars.add_task("whole run", total=None, loss="", validation="", visible=False)
        self._stage = self._bars.add_task("", total=None, loss="", validation="", visible=False)
        self._expected = 0
        self._steps = 0
        self._before = 0
        self._done = 0
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def expect(self, steps: int) -> None:
        """See :class:`Progress`."""
        self._expected = steps
        self._bars.update(self._total, total=steps, visible=True)

    def start(self, label: str, steps: int, done: int = 0) -> None:
        """See :class:`Progress`."""
        self._before += self._done
        self._done, self._steps = done, steps
        self._bars.reset(
            self._stage, description=label, total=steps, completed=done, visible=True, loss="", validation=""
        )
        if not self._console.is_terminal:
            self._console.print(
                f"[{time.monotonic() - self._begun:6.1f} s] {label}: {steps - done} steps", markup=False
            )

    def advance(self, step: int, loss: float | None = None) -> None:
        """See :class:`Progress`."""
        self._done = step
        fields = {} if loss is None else {"loss": f"loss {loss:.4g}"}
        self._bars.update(self._stage, completed=step, **fields)  # type: ignore[arg-type]
        self._bars.update(self._total, completed=self._before + step)

    def validated(self, loss: float) -> None:
        """See :class:`Progress`."""
        self._bars.update(self._stage, validation=f"validation {loss:.4g}")

    def stop(self, step: int) -> None:
        """See :class:`Progress`: what is left out of this stage is left out of the whole run."""
        self.advance(step)
        self._bars.update(self._stage, total=step)
        if self._expected:
            self._expected -= self._steps - step
            self._bars.update(self._total, total=self._expected)

    def message(self, text: str) -> None:
        """See :class:`Progress`."""
        self._console.print(text, markup=False, highlight=False)


def amount(size: float) -> str:
    """Bytes for a reader.

    Example:
        >>> amount(3_145_728_000), amount(512)
        ('3.1 GB', '512 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds for a reader.

    Example:
        >>> duration(40), duration(90), duration(10_000)
        ('40 s', '2 min', '2 h 47 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
