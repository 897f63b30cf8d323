"""Checking numbers that a user gives, before anything is trained with them."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real

from torch import Tensor

from limbeck.core.divergence import ObservationModel
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.errors import DataError, RecipeError

__all__ = [
    "check_batches",
    "check_numbers",
    "check_objective",
    "check_snapshots",
    "check_whole",
    "learns_observations",
]


def check_batches(label: str, **batches: object) -> None:
    """Refuse rows of data that are no ``Batch`` of tensors.

    Args:
        label: what is being done with them.
        batches: rows by the name of their argument.

    Raises:
        DataError: names the argument and what it is.
    """
    for name, rows in batches.items():
        if rows is not None and not isinstance(rows, Batch):
            raise DataError(
                f"{label}: {name} must be a limbeck.Batch, such as Batch(y=images), not {type(rows).__name__}"
            )
        for part in () if rows is None else (rows.y, rows.x):
            if part is not None and not isinstance(part, Tensor):
                raise DataError(
                    f"{label}: {name} must be a limbeck.Batch of tensors, not of {type(part).__name__}; arrays become "
                    "tensors by torch.from_numpy(array)"
                )


def check_numbers(where: str = "", **numbers: object) -> None:
    """Refuse settings that are no numbers.

    Args:
        where: what stands before a setting's name where a user types it.
        numbers: settings by name.

    Raises:
        RecipeError: names the setting and its value.
    """
    for name, number in numbers.items():
        if not isinstance(number, Real):
            raise RecipeError(f"{where}{name} must be a number, not {number!r}")


def check_objective(objective: object) -> None:
    """Refuse what is no objective, most often the function that makes it.

    Raises:
        RecipeError: names what was given.
    """
    if not isinstance(objective, Objective):
        given = getattr(objective, "__name__", None) or repr(objective)
        raise RecipeError(f"the objective must be a limbeck.Objective, such as methods.surrogate(), not {given}")


def learns_observations(objective: Objective) -> bool:
    """Whether an objective learns an observation model, of which there can be snapshots."""
    return any(isinstance(part, ObservationModel) for part in objective.modules())


def check_snapshots(snapshots: tuple[float, ...], objectives: Iterable[Objective]) -> None:
    """Refuse snapshots of what no objective learns.

    Args:
        snapshots: of :class:`~limbeck.engine.Training`.
        objectives: those that are trained with it.

    Raises:
        RecipeError: they would have no effect.
    """
    if snapshots and not any(map(learns_observations, objectives)):
        raise RecipeError(
            "training.snapshots has no effect: no match learns an observation model, as vid does; leave it out"
        )


def check_whole(least: int, where: str = "", **numbers: object) -> None:
    """Refuse settings that are no whole numbers, or too small ones.

    Args:
        least: the smallest number that is allowed.
        where: what stands before a setting's name where a user types it, e.g. ``"evaluation."``.
        numbers: settings by name.

    Raises:
        RecipeError: names the setting and its value.

    >>> check_whole(1, steps=3, batch_size=1)
    >>> check_whole(2, "evaluation.", samples=1)
    Traceback (most recent call last):
        ...
    limbeck.errors.RecipeError: evaluation.samples must be at least 2, not 1
    """
    for name, number in numbers.items():
        if not isinstance(number, Integral):
            raise RecipeError(f"{where}{name} must be a whole number, not {number!r}")
        if int(number) < least:
            raise RecipeError(f"{where}{name} must be at least {least}, not {number}")
