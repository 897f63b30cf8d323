"""What a user sees while a sweep runs: finished models and points, work in progress, time left."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from limbeck.engine.stages.units import duration

__all__ = ["Item", "SweepProgress"]

_EVERY = 0.5  # seconds between two looks at the reports
_SHOWN = 12  # lines of work in progress; more would push the bars off the screen


@dataclass(frozen=True)
class Item:
    """One piece of work.

    Attributes:
        report: name of the file in which its process reports its progress.
        label: how it is called on the screen.
        steps: optimiser steps of a model; 0 for a point, whose models are separate items.
    """

    report: str
    label: str
    steps: int = 0


class SweepProgress:
    """Reads the processes' reports and shows them: bars in a terminal, otherwise a line for each finished item.

    Args:
        items: all models and points.
        reports: directory of the reports.
    """

    def __init__(self, items: Sequence[Item], reports: Path) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._items = items
        self._reports = reports
        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._steps = self._bars.add_task("training steps", total=sum(item.steps for item in items) or None)
        self._points = self._bars.add_task("points", total=sum(not item.steps for item in items))
        self._running: dict[str, Any] = {}
        self._messages_shown: dict[str, int] = {}
        self._ended: set[str] = set()
        self._steps_before: int | None = None  # done by earlier commands
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._bars.start()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            self._look()
        for task in self._running.values():
            self._bars.remove_task(task)
        self._bars.stop()

    def message(self, text: str) -> None:
        """Show something that the user should read."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY):
            self._look()

    def _look(self) -> None:
        found = {item: self._read(item) for item in self._items}
        steps = sum(_done(item, report) for item, report in found.items())
        self._steps_before = steps if self._steps_before is None else self._steps_before
        self._bars.update(self._steps, completed=steps)
        for item, report in found.items():
            if report and item.report not in self._ended:
                self._follow(item, report)
        points = [item for item in self._items if not item.steps]
        self._bars.update(self._points, completed=sum(item.report in self._ended for item in points))

    def _follow(self, item: Item, report: dict[str, Any]) -> None:
        new = report["messages"][self._messages_shown.get(item.report, 0) :]
        self._messages_shown[item.report] = len(report["messages"])
        for text in new:
            if item.steps or text.startswith("Warning"):
                self.message(f"{item.label}: {text}")
        if report["ended"]:
            self._ended.add(item.report)
            if item.report in self._running:
                self._bars.remove_task(self._running.pop(item.report))
            if report["error"]:
                self.message(f"{item.label} failed: {report['error']}")
            if not self._console.is_terminal:
                self._line(item)
        elif item.report in self._running or len(self._running) < _SHOWN:
            if item.report not in self._running:
                self._running[item.report] = self._bars.add_task(f"  {item.label}", total=None)
            total = report["steps"] if item.steps else None
            self._bars.update(self._running[item.report], total=total or None, completed=report["done"])

    def _line(self, item: Item) -> None:
        counts = []
        for name, group in (("models", True), ("points", False)):
            members = [one for one in self._items if bool(one.steps) == group]
            if members:
                counts.append(f"{sum(one.report in self._ended for one in members)} of {len(members)} {name}")
        passed = time.monotonic() - self._began
        self.message(f"[{passed:6.1f} s] {', '.join(counts)}{self._left(passed)}: {item.label}")

    def _left(self, passed: float) -> str:
        """Training time left at the present speed, as text."""
        total = sum(item.steps for item in self._items)
        steps = sum(_done(item, self._read(item)) for item in self._items)
        done_now = steps - (self._steps_before or 0)
        if done_now <= 0 or steps >= total:
            return ""
        return f", about {duration((total - steps) * passed / done_now)} of training left"

    def _read(self, item: Item) -> dict[str, Any]:
        try:
            found = json.loads((self._reports / item.report).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _done(item: Item, report: dict[str, Any]) -> int:
    if not item.steps or not report:
        return 0
    return item.steps if report["ended"] else min(item.steps, int(report["done"]))
