"""What a user sees in a terminal while something long runs: stages, steps, loss, time left."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from typing_extensions import override

from limbeck.engine.stages.progress import Progress

__all__ = ["TerminalProgress"]


class TerminalProgress(Progress):
    """A bar for the stage and one for the whole run, with the time left; plain lines where there is no terminal."""

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
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    @override
    def expect(self, steps: int) -> None:
        self._expected = steps
        self._bars.update(self._total, total=steps, visible=True)

    @override
    def start(self, label: str, steps: int, done: int = 0) -> None:
        self._before += self._done
        self._done, self._steps = done, steps
        self._bars.reset(
            self._stage, description=label, total=steps, completed=done, visible=True, loss="", validation=""
        )
        if not self._console.is_terminal:
            seconds = time.monotonic() - self._began
            self._console.print(f"[{seconds:6.1f} s] {label}: {steps - done} steps", markup=False)

    @override
    def advance(self, step: int, loss: float | None = None) -> None:
        self._done = step
        fields = {} if loss is None else {"loss": f"loss {loss:.4g}"}
        self._bars.update(self._stage, completed=step, **fields)  # type: ignore[arg-type]
        self._bars.update(self._total, completed=self._before + step)

    @override
    def validated(self, loss: float) -> None:
        self._bars.update(self._stage, validation=f"validation {loss:.4g}")

    @override
    def stop(self, step: int) -> None:
        """See :class:`Progress`; the steps that the stage leaves out are left out of the whole run too."""
        self.advance(step)
        self._bars.update(self._stage, total=step)
        if self._expected:
            self._expected -= self._steps - step
            self._bars.update(self._total, total=self._expected)

    @override
    def message(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)
