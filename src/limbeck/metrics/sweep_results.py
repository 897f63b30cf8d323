"""The record of a sweep, ``sweep.json``: its axes and where the results of its points are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.errors import DataError

__all__ = ["SweepAxis", "SweepPoint", "SweepResults", "value_text"]


@dataclass(frozen=True)
class SweepAxis:
    """One dimension of the grid.

    Attributes:
        label: its name in tables and figures, e.g. ``"student.width"``.
        keys: the fields of the recipe that it sets.
        values: plain JSON values, in order.
    """

    label: str
    keys: list[str]
    values: list[Any]


@dataclass(frozen=True)
class SweepPoint:
    """One point of the grid.

    Attributes:
        name: its directory, relative to that of the sweep; ``metrics.json`` in it holds the numbers.
        values: one for each axis.
        error: why there are no numbers; empty for a point that is finished.
    """

    name: str
    values: list[Any]
    error: str = ""


@dataclass(frozen=True)
class SweepResults:
    """Everything about a sweep that its points do not know.

    Attributes:
        recipe: recipe name, e.g. ``"ladder-vae-digits"``.
        name: name of the sweep, the last part of its directory.
        title: one line for a reader.
        description: a paragraph: what was done, on which data.
        command: the command that reproduces the sweep.
        axes: dimensions of the grid.
        points: every point, the last axis changing fastest.
        notes: sentences that a reader must know, e.g. how many processes worked beside each other.
        dry_run: whether stages were cut to a few steps, so that the numbers mean nothing.
    """

    recipe: str
    name: str
    title: str
    description: str
    command: str
    axes: list[SweepAxis]
    points: list[SweepPoint]
    notes: list[str] = field(default_factory=list)
    dry_run: bool = False

    @property
    def failed(self) -> list[SweepPoint]:
        """The points without numbers."""
        return [point for point in self.points if point.error]

    def to_json(self) -> str:
        """Text of ``sweep.json``."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_file(cls, path: str | Path) -> SweepResults:
        """Read a ``sweep.json``.

        Raises:
            DataError: the file is missing, not JSON, or not the record of a sweep.
        """
        path = Path(path)
        try:
            raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            axes = [SweepAxis(**axis) for axis in raw.pop("axes")]
            points = [SweepPoint(**point) for point in raw.pop("points")]
            return cls(axes=axes, points=points, **raw)
        except FileNotFoundError:
            raise DataError(f"{path} does not exist: is this a finished sweep? Run `limbeck sweep` first.") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{path} is not the record of a sweep ({error}); delete it and run again.") from None


def value_text(value: Any) -> str:
    """A value as a person would type it: ``0.001``, ``mean``, ``[1, 2]``."""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, Mapping) and "class_path" in value:
        given = ", ".join(f"{key}={value_text(item)}" for key, item in (value.get("init_args") or {}).items())
        name = str(value["class_path"]).rpartition(".")[2]
        return f"{name}({given})" if given else name
    return value if isinstance(value, str) else json.dumps(value, default=str)
