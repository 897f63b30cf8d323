"""Parts of a recipe: what is said about it, and each further method of training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from limbeck.core.graph import DGM
from limbeck.core.objective import Objective

__all__ = ["About", "Baseline", "Start"]

Start = Literal["random", "teacher", "source"]
"""A student's initial weights: fresh ones, what of the teacher's it takes over (:meth:`limbeck.DGM.start_from`), or
those of its own architecture trained as the teacher is, on the teacher's data: what is then trained is fine-tuned."""


@dataclass(frozen=True)
class About:
    """What ``limbeck recipes`` says of a recipe.

    Attributes:
        size: teacher and student, e.g. ``"102 k to 3.5 k parameters"``.
        time: how long it takes and on what, e.g. ``"4 min, 2 cores"``.
        source: where the experiment comes from, e.g. ``"[U] Fig. 4"``.
    """

    size: str = ""
    time: str = ""
    source: str = ""


@dataclass(frozen=True)
class Baseline:
    """Another way to train the same student with the same budget.

    Attributes:
        objective: what it minimises.
        learning_rate: its own tuned learning rate; by default the recipe's.
        student: an architecture of its own; by default the recipe's.
        start: its own initial weights; by default the recipe's ``start``.
        choices: as the recipe's, for this method.
        pairs: whether it learns from the recipe's recorded pairs, if there are any; else the teacher runs anew in each
            step.
        rows: with tasks, which rows its loss on data sees: the new ``"task"``'s, or ``"all"`` so far, the upper bound
            that nothing which learns in sequence can have.
    """

    objective: Objective
    learning_rate: float | None = None
    student: DGM | None = None
    start: Start | None = None
    rows: Literal["task", "all"] = "task"
    pairs: bool = True
    choices: dict[str, list[float]] = field(default_factory=dict)
