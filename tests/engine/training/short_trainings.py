"""Trainings of a few steps, and students that break in the middle."""

from __future__ import annotations

from typing import Any

from limbeck import methods
from limbeck.core.loss import Batch, Loss
from limbeck.engine.settings.options import Training
from limbeck.engine.training.fit import Fitted, fit
from tests.tiny import Tiny, built


class StoppedError(Exception):
    """Ends a training in the middle."""


def options(**changes: Any) -> Training:
    return Training(
        **{"steps": 12, "batch_size": 8, "learning_rate": 0.01, "log_every": 4, "checkpoint_every": 5} | changes
    )


def distilled(**arguments: Any) -> tuple[Tiny, Fitted]:
    """A student after surrogate distillation on samples alone."""
    student = arguments.pop("student", None) or built(seed=1, width=3)
    arguments = {"options": options(), "objective": methods.surrogate(), "teacher": built(width=8)} | arguments
    return student, fit(student, arguments.pop("objective"), arguments.pop("options"), **arguments)


class Stumbling(Tiny):
    """Its loss is not a number from the given call on."""

    def __init__(self, good: int = 7, gradient: bool = False) -> None:
        super().__init__()
        self.good, self.gradient, self.calls = good, gradient, 0

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        self.calls += 1
        terms = dict(super().loss(batch, progress=progress).terms)
        if self.calls > self.good:
            # The square root of 0 is finite, its gradient is not.
            bad = (
                (0.0 * terms["z1"]).clamp(min=0).sqrt() * 0.0
                if self.gradient
                else terms["z1"] / 0.0 - terms["z2"] / 0.0
            )
            terms["z1"] = terms["z1"] + bad
        return Loss.of(terms)
