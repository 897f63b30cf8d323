"""Weights that change during a training; ``limbeck.methods.Ramp`` is the public name."""

from __future__ import annotations

from dataclasses import dataclass

from limbeck.errors import MatchError

__all__ = ["Ramp"]


@dataclass(frozen=True)
class Ramp:
    """A weight that changes linearly from one value to another, and is constant before and after.

    Attributes:
        start: its value up to ``begin``.
        end: its value from ``finish`` on.
        begin: fraction of the training, in [0, 1].
        finish: the same; at least ``begin``.

    Example:
        >>> warm_up = Ramp(0.0, 1.0, begin=0.1, finish=0.3)
        >>> [round(warm_up(progress), 2) for progress in (0.0, 0.2, 0.5)]
        [0.0, 0.5, 1.0]
    """

    start: float
    end: float
    begin: float = 0.0
    finish: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.begin <= self.finish <= 1.0:
            raise MatchError(f"a ramp needs 0 <= begin <= finish <= 1, not {self.begin} and {self.finish}")

    def __call__(self, progress: float) -> float:
        """The weight at a point of the training."""
        if progress >= self.finish:
            return self.end
        if progress <= self.begin:
            return self.start
        return self.start + (self.end - self.start) * (progress - self.begin) / (self.finish - self.begin)
