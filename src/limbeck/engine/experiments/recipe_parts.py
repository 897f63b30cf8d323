"""Parts of a recipe: a description for the list of recipes, baselines, where students start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from limbeck.core.graph import DGM
from limbeck.core.objective import Objective
from limbeck.errors import RecipeError

__all__ = ["About", "Baseline", "Start", "check_folder_name"]

_LONGEST = 200  # bytes; file systems allow 255, of which folders that are moved aside need some

Start = Literal["random", "teacher", "source"]
"""A student's initial weights.

Random ones; the teacher's, as far as the student takes them (:meth:`limbeck.DGM.start_from`); or those of a source,
the student's own architecture trained as the teacher is and on the teacher's data, which is then fine-tuned.
"""


@dataclass(frozen=True)
class About:
    """What ``limbeck recipes`` says about a recipe.

    Attributes:
        size: of teacher and student, e.g. ``"102 k to 3.5 k parameters"``.
        time: how long a run takes and on what hardware, e.g. ``"4 min, 2 cores"``.
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
        student: its own architecture; by default the recipe's.
        start: its own initial weights; by default the recipe's ``start``.
        choices: as in the recipe, for this method.
        pairs: whether it learns from the recipe's recorded pairs, if there are any; otherwise the teacher runs in each
            step.
        rows: with tasks, which rows its loss on data sees: those of the new ``"task"``, or ``"all"`` so far, an upper
            bound that no method can reach which learns the tasks in sequence.
    """

    objective: Objective
    learning_rate: float | None = None
    student: DGM | None = None
    start: Start | None = None
    rows: Literal["task", "all"] = "task"
    pairs: bool = True
    choices: dict[str, list[float]] = field(default_factory=dict)


def check_folder_name(method: str) -> None:
    """Check that the name of a method can be that of a folder, in which its students are kept.

    Raises:
        RecipeError: it is empty, leads elsewhere, or has characters that no folder's name may have.
    """
    stray = sorted({character for character in method if character in "/\\" or not character.isprintable()})
    if not stray and method.strip() == method and method not in ("", ".", "..") and len(method.encode()) <= _LONGEST:
        return
    why = f"it has {', '.join(map(repr, stray))}" if stray else "a folder cannot have this name"
    raise RecipeError(
        f"the method's name {method!r} is also that of the folder of its students, but {why}; give it another name"
    )
