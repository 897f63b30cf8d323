"""The numbers of a run as typed records: written by the engine, read by the report.

One :class:`RunResults` is one ``metrics.json``. Values are stored per model and seed; means, spreads and intervals are
derived when they are shown, so that a reader can always recompute them.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from limbeck.errors import DataError

__all__ = ["Measure", "ModelResult", "PictureKind", "RunResults"]


@dataclass(frozen=True)
class Measure:
    """What one number means and how to print it.

    Attributes:
        key: name under which :attr:`ModelResult.values` holds the number, e.g. ``"fid_data"``.
        label: column heading, e.g. ``"FID (digits-cnn) to test data"``.
        better: whether a lower or a higher value is better, or neither.
        digits: decimals to print.
        unit: unit shown beside the label, empty for pure numbers.
        detail: whether only the table of every model and seed shows it, and not that of the results.
        kind: ``"cost"`` for size, time and speed, which have a table of their own; else ``"quality"``.
    """

    key: str
    label: str
    better: Literal["lower", "higher", "neither"] = "lower"
    digits: int = 1
    unit: str = ""
    detail: bool = False
    kind: Literal["quality", "cost"] = "quality"


@dataclass(frozen=True)
class PictureKind:
    """What one picture in a model's folder shows, for those who did not draw it.

    Attributes:
        name: of the file, without its ending.
        title: heading of the pictures of all models.
        sentence: what a reader sees in them.
        what: what they are of, up to the model's name, for readers who cannot see them: ``"reconstructions by"``.
    """

    name: str
    title: str
    sentence: str
    what: str

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"{self.name}.png"


@dataclass(frozen=True)
class ModelResult:
    """One trained model: the teacher, or one student of one method and seed.

    Attributes:
        method: ``"teacher"`` or the name of the method, e.g. ``"surrogate"``.
        seed: seed of the student; ``None`` for a teacher that was loaded.
        directory: its folder relative to the run directory; holds ``history.csv`` and ``samples.png``.
        values: measure key to number.
        settings: what was tuned or differs from the recipe's default, e.g. ``{"learning_rate": 0.001}``.
    """

    method: str
    seed: int | None
    directory: str
    values: dict[str, float]
    settings: dict[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResults:
    """Everything a report shows of one run.

    Attributes:
        recipe: recipe name, e.g. ``"ladder-vae-digits"``.
        name: run name, the last part of the run directory.
        title: one line for a reader.
        description: a paragraph: what was done, on which data.
        command: the command that reproduces the run.
        measures: the columns, in order.
        results: teacher first, then methods in the recipe's order, each seed.
        references: label to number, e.g. ``{"real vs real (train vs test)": 4.1}``.
        notes: sentences a reader must know, e.g. how pictures were clamped.
        environment: software and hardware, label to text.
        dry_run: whether stages were cut to a few steps, so that the numbers mean nothing.
        without_teacher: methods that never see the teacher: the baselines of distillation.
        variants: rows that nobody trained, such as the teacher with fewer steps; they compete with no student.
        teacher_elsewhere: whether the teacher was trained and measured on other data than the students, so that its
            numbers are not comparable with theirs.
        pictures: what may lie in a model's folder besides ``samples.png``, in the order in which it is shown.
        resolved: the recipe with every default filled in, as YAML; empty in records that were written before they
            held it.
    """

    recipe: str
    name: str
    title: str
    description: str
    command: str
    measures: list[Measure]
    results: list[ModelResult]
    references: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    dry_run: bool = False
    without_teacher: list[str] = field(default_factory=lambda: ["scratch"])
    variants: list[str] = field(default_factory=list)
    teacher_elsewhere: bool = False
    pictures: list[PictureKind] = field(default_factory=list)
    resolved: str = ""

    @property
    def methods(self) -> list[str]:
        """Method names in the order in which they first occur, the teacher included."""
        return list(dict.fromkeys(result.method for result in self.results))

    @property
    def trained(self) -> list[str]:
        """The methods without :attr:`variants`."""
        return [method for method in self.methods if method not in self.variants]

    @property
    def students(self) -> list[str]:
        """The methods without the teacher and its variants."""
        return [method for method in self.trained if method != "teacher"]

    def values(self, method: str, key: str) -> list[float]:
        """The finite values of one measure over the seeds of one method."""
        found = [r.values[key] for r in self.results if r.method == method and key in r.values]
        return [value for value in found if math.isfinite(value)]

    def to_json(self) -> str:
        """Text of ``metrics.json``; non-finite numbers become ``null``-safe strings via :func:`repr`."""
        return json.dumps(_plain(dataclasses.asdict(self)), indent=2)

    @classmethod
    def from_file(cls, path: str | Path) -> RunResults:
        """Read a ``metrics.json``.

        Raises:
            DataError: the file is missing, not JSON, or not the record of a run.
        """
        path = Path(path)
        try:
            raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            measures = [Measure(**{"kind": _kind_by_key(m["key"]), **m}) for m in raw.pop("measures")]
            results = [ModelResult(**{**r, "values": _floats(r["values"])}) for r in raw.pop("results")]
            pictures = [PictureKind(**kind) for kind in raw.pop("pictures", [])]
            rest = {**raw, "references": _floats(raw["references"])}
            return cls(measures=measures, results=results, pictures=pictures, **rest)
        except FileNotFoundError:
            raise DataError(f"{path} does not exist: is this a finished run? Run `limbeck run` first.") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{path} is not the record of a run ({error}); delete it and run again.") from None


def _kind_by_key(key: str) -> Literal["quality", "cost"]:
    """The kind of a measure, derived from its key: for records that were written before they held it."""
    cost = key.startswith("parameters") or "seconds" in key or "per_second" in key
    return "cost" if cost else "quality"


def _plain(value: Any) -> Any:
    """JSON has no NaN or infinity: write them as text, which :func:`_floats` reads back."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _floats(raw: dict[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in raw.items()}
