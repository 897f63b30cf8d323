"""Axes of a sweep: fields of a recipe that take several values, and the grid of points that they span."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.errors import RecipeError
from limbeck.metrics.sweep_results import value_text

__all__ = ["Axis", "GridPoint", "check_axes", "grid", "short_labels"]

_LONGEST_NAME = 120  # file systems allow 255 bytes, of which replaced folders and temporary files need some


@dataclass(frozen=True)
class Axis:
    """One dimension of a sweep.

    Attributes:
        keys: fields of the recipe, written as in an override (``student.width``); all take the same value at a time.
        values: the values of these fields.
        label: its name in tables and figures; by default the keys.
    """

    keys: list[str]
    values: list  # type: ignore[type-arg]  # of anything; as list[Any] a parser would fill in what a class_path names
    label: str = ""

    def __post_init__(self) -> None:
        if not self.keys or not all(self.keys):
            raise RecipeError("an axis of a sweep needs at least one key, e.g. student.width")
        if not self.values:
            raise RecipeError(f"the axis {self.name} of the sweep has no values, e.g. --over {','.join(self.keys)}=4,8")
        texts = [value_text(value) for value in self.values]
        twice = next((text for text in texts if texts.count(text) > 1), None)
        if twice is not None:
            raise RecipeError(f"the axis {self.name} of the sweep has the value {twice} twice")

    @property
    def name(self) -> str:
        """Its name in tables and figures."""
        return self.label or ", ".join(self.keys)


@dataclass(frozen=True)
class GridPoint:
    """One point of the grid.

    Attributes:
        name: name of its directory, e.g. ``"student.width=4,objective.latent_weight=0.001"``.
        values: one for each axis, in the order of the axes.
        overrides: key to value, for every key of every axis.
    """

    name: str
    values: tuple[Any, ...]
    overrides: dict[str, Any]


def grid(axes: Sequence[Axis]) -> list[GridPoint]:
    """The product of the axes, the last one changing fastest.

    Raises:
        RecipeError: two axes share a key.

    Example:
        >>> [point.name for point in grid([Axis(["a"], [1, 2]), Axis(["b", "c"], [0.5])])]
        ['a=1,b+c=0.5', 'a=2,b+c=0.5']
    """
    check_axes(axes)
    points = []
    for values in itertools.product(*(axis.values for axis in axes)):
        overrides = {key: value for axis, value in zip(axes, values) for key in axis.keys}
        points.append(GridPoint(_name(axes, values), values, overrides))
    return points


def check_axes(axes: Sequence[Axis]) -> None:
    """Check that every key belongs to one axis.

    Raises:
        RecipeError: names a key that occurs twice.
    """
    keys = [key for axis in axes for key in axis.keys]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise RecipeError(f"the sweep names {twice} twice; a key belongs to one axis; join tied keys with a comma")


def short_labels(axes: Sequence[Axis]) -> list[str]:
    """A label for each axis: its own, or the shortest endings of its keys that distinguish it from the others.

    Example:
        >>> short_labels([Axis(["student.width"], [4, 8]), Axis(["objective.latent_weight"], [0, 1])])
        ['width', 'latent_weight']
        >>> short_labels([Axis(["student.width"], [4, 8]), Axis(["teacher.width"], [16, 32])])
        ['student.width', 'teacher.width']
    """

    def short(axis: Axis, parts: int) -> str:
        return axis.label or ", ".join(dict.fromkeys(".".join(key.split(".")[-parts:]) for key in axis.keys))

    for parts in range(1, 1 + max(key.count(".") for axis in axes for key in axis.keys)):
        found = [short(axis, parts) for axis in axes]
        if len(set(found)) == len(axes):
            return found
    return [axis.name for axis in axes]


def _name(axes: Sequence[Axis], values: Sequence[Any]) -> str:
    exact = ",".join(f"{'+'.join(axis.keys)}={value_text(value)}" for axis, value in zip(axes, values))
    safe = re.sub(r"[^\w.=,+-]+", "-", exact, flags=re.ASCII)
    if safe == exact and len(safe) <= _LONGEST_NAME:
        return safe
    mark = hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()[:8]
    return f"{safe[:_LONGEST_NAME]}~{mark}"
