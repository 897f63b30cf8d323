"""The loss and each of its terms over the steps: averaged between rows, kept in checkpoints, written as csv."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from typing_extensions import override

from limbeck.engine.stages.progress import Progress
from limbeck.engine.training.module import StudentModule
from limbeck.engine.training.validation import Validation
from limbeck.files import atomic_write_text

__all__ = ["History", "HistoryRecorder"]

_LAST = "seconds"  # of the columns that every history has

_Names = tuple[tuple[str, ...], tuple[str, ...]]
"""Names of the terms of a loss, and of what is observed beside them."""


class History:
    """Rows of (step, total, terms..., validation, learning_rate, seconds, observed...).

    Attributes:
        rows: one mapping per row. ``total`` and the terms are means since the row before; ``validation``, if a row has
            it, is the loss on held-out rows after the row's step.
        observed: names of what is no part of the total, such as ``"information/h[0]"``; a row has their means since the
            row before.
    """

    def __init__(self, rows: list[dict[str, float]] | None = None, observed: Sequence[str] = ()) -> None:
        self.rows: list[dict[str, float]] = rows or []
        self.observed = list(observed)

    @property
    def columns(self) -> list[str]:
        """Every column that some row has: step, total and terms first, what was observed after the seconds."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        ends = ("validation", "learning_rate", _LAST, *self.observed)
        return [name for name in names if name not in ends] + [name for name in ends if name in names]

    @property
    def seconds(self) -> float:
        """Time spent in training, over all continuations."""
        return self.rows[-1]["seconds"] if self.rows else 0.0

    def write(self, path: str | Path) -> None:
        """Write as csv.

        Raises:
            StorageError: the file cannot be written.
        """
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, self.columns, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({name: f"{value:.6g}" for name, value in row.items()} | {"step": int(row["step"])})
        atomic_write_text(path, buffer.getvalue())

    @classmethod
    def read(cls, path: str | Path) -> History:
        """Read what :meth:`write` wrote.

        Raises:
            OSError: there is no such file.
        """
        with Path(path).open(newline="", encoding="utf-8") as handle:
            rows = csv.DictReader(handle)
            names = list(rows.fieldnames or ())
            behind = names[names.index(_LAST) + 1 :] if _LAST in names else []
            return cls([{name: _number(name, value) for name, value in row.items() if value} for row in rows], behind)


class HistoryRecorder(Callback):
    """Fills a :class:`History` and reports progress.

    Args:
        history: what to fill.
        every: steps per row.
        progress: receives the step and the loss.
        validation: a callback that was called before this one; each validation ends a row, too.
    """

    def __init__(self, history: History, every: int, progress: Progress, validation: Validation | None = None) -> None:
        self.validation = validation
        self.history = history
        self.every = every
        self.progress = progress
        self._sums: dict[_Names, Tensor] = {}
        self._count = 0
        self._begun = 0.0
        self._before = 0.0

    @override
    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Start the clock; a checkpoint has been read by now."""
        self._begun = time.monotonic()
        self._before = self.history.seconds

    @override
    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        """Add a step, and finish the row when it is time."""
        assert isinstance(module, StudentModule)
        loss, step = module.latest, trainer.global_step
        assert loss is not None
        names = tuple(loss.terms), tuple(loss.observed)
        values = torch.stack([value.detach() for value in (*loss.terms.values(), *loss.observed.values())])
        # Sums from a checkpoint are on the CPU.
        sums = self._sums
        sums[names] = sums[names].to(values.device) + values if names in sums else values
        self._count += 1
        validated = self.validation.latest if self.validation is not None else None
        loss_there = validated[1] if validated is not None and validated[0] == step else None
        if step % self.every == 0 or step == trainer.max_steps or loss_there is not None:
            self._finish(trainer, module, step, loss_there)
        elif step % 10 == 0:
            self.progress.advance(step)

    def _finish(self, trainer: lightning.Trainer, module: StudentModule, step: int, validation: float | None) -> None:
        terms, observed = dict[str, float](), dict[str, float]()
        for (of_terms, of_observed), values in self._sums.items():
            means = trainer.strategy.reduce(values / self._count, reduce_op="mean").tolist()
            terms.update(zip(of_terms, means[: len(of_terms)], strict=True))
            observed.update(zip(of_observed, means[len(of_terms) :], strict=True))
        row: dict[str, float] = {"step": step, "total": sum(terms.values()), **terms}
        module.check_finite(row["total"], terms, step)
        if validation is not None:
            row["validation"] = validation
        row["learning_rate"] = module.options.learning_rate * module.options.rate(step - 1)
        row[_LAST] = self._before + time.monotonic() - self._begun
        row |= observed
        self.history.observed.extend(name for name in observed if name not in self.history.observed)
        self.history.rows.append(row)
        self._sums, self._count = {}, 0
        self.progress.advance(step, row["total"])

    @override
    def state_dict(self) -> dict[str, Any]:
        """Rows so far and the sums of the row that is being filled, for the checkpoint."""
        state = {"rows": self.history.rows, "sums": dict(self._sums), "count": self._count}
        return state | ({"observed": list(self.history.observed)} if self.history.observed else {})

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        self.history.rows[:] = state_dict["rows"]
        self.history.observed[:] = state_dict.get("observed", [])
        self._sums = {_names(key): values for key, values in state_dict["sums"].items()}
        self._count = state_dict["count"]


def _number(name: str, value: str) -> float:
    return int(float(value)) if name == "step" else float(value)


def _names(key: _Names | str) -> _Names:
    """Names as they are in a checkpoint; older ones have them as lines of a text, those observed after a tab."""
    if not isinstance(key, str):
        return key
    lines = key.split("\n")
    terms = tuple(line for line in lines if not line.startswith("\t"))
    return terms, tuple(line.removeprefix("\t") for line in lines if line.startswith("\t"))
