"""Reading a run directory. What is damaged or not there becomes ``None``: a report shows what there is."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from limbeck.metrics.results import ModelResult, RunResults

__all__ = ["Curves", "Model", "Picture", "Run", "read_curves", "read_picture", "read_run"]

Series = npt.NDArray[np.float64]

_NOT_TERMS = frozenset({"step", "total", "validation", "learning_rate", "seconds"})
_OTHERS = ("beside_teacher", "between_noises", "larger", "neighbours")  # pictures of diffusion samplers
_POINTS = 300  # a curve is thinned to so many points: more cannot be seen and would swell the page
_LARGEST = 20_000_000  # bytes: a picture or history beyond this is not put into a page


@dataclass(frozen=True)
class Curves:
    """One ``history.csv``: the loss and its weighted terms at some steps.

    Attributes:
        steps: step of each row.
        total: the loss; NaN where the cell is blank.
        terms: name to weighted contribution, in the order of the file.
    """

    steps: Series
    total: Series
    terms: dict[str, Series]


@dataclass(frozen=True)
class Picture:
    """A PNG file that a page can hold.

    Attributes:
        uri: the file as a data URI.
        width: in pixels.
        height: in pixels.
    """

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Model:
    """One trained model as the page shows it.

    Attributes:
        result: its numbers.
        picture: ``samples.png``.
        reconstructions: ``reconstructions.png``: data and what the model makes of its own code of them.
        cool: ``samples_cool.png``: samples at a lower temperature.
        interpolations: ``interpolations.png``: what the model makes of codes between those of data.
        others: name of the file without its ending to picture: those of diffusion samplers.
        curves: ``history.csv``.
    """

    result: ModelResult
    picture: Picture | None
    reconstructions: Picture | None
    curves: Curves | None
    cool: Picture | None = None
    interpolations: Picture | None = None
    others: dict[str, Picture] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
        directory: where it is.
        results: its ``metrics.json``.
        models: one for each result.
        recipe: text of ``recipe.yaml``.
        environment: software and hardware, label to text.
    """

    directory: Path
    results: RunResults
    models: list[Model]
    recipe: str | None
    environment: dict[str, str] = field(default_factory=dict)

    def of(self, method: str) -> list[Model]:
        """The models of one method, each seed, in order."""
        return [model for model in self.models if model.result.method == method]


def read_run(directory: str | Path) -> Run:
    """Read everything that a report shows of one run.

    Args:
        directory: ``runs/<recipe>/<name>``.

    Returns:
        The run. Pictures, histories, the recipe and the environment may be missing.

    Raises:
        DataError: ``metrics.json`` is missing or is not the record of a run.
    """
    directory = Path(directory)
    results = RunResults.from_file(directory / "metrics.json")
    models = []
    for result in results.results:
        folder = _inside(directory, result.directory)
        if folder is None:
            models.append(Model(result, None, None, None))
            continue
        names = ("samples", "reconstructions", "samples_cool", "interpolations")
        samples, rebuilt, cool, between = (read_picture(folder / f"{name}.png") for name in names)
        pictures = {name: read_picture(folder / f"{name}.png") for name in _OTHERS}
        others = {name: picture for name, picture in pictures.items() if picture is not None}
        models.append(Model(result, samples, rebuilt, read_curves(folder / "history.csv"), cool, between, others))
    recipe = _bytes(directory / "recipe.yaml")
    return Run(
        directory=directory,
        results=results,
        models=models,
        recipe=None if recipe is None else recipe.decode("utf-8", errors="replace"),
        environment=results.environment or _environment(directory / "environment.json"),
    )


def read_picture(path: Path) -> Picture | None:
    """Read a PNG file as a data URI with its width and height; ``None`` when it cannot be shown."""
    from PIL import Image

    data = _bytes(path)
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()  # a file that was cut off opens, but does not load
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return Picture("data:image/png;base64," + base64.b64encode(data).decode("ascii"), width, height)


def read_curves(path: Path) -> Curves | None:
    """Read a ``history.csv``: columns ``step``, ``total`` and one for each term.

    Blank or unreadable cells become NaN; rows without a step are left out (the last row of a run that was killed may be
    cut short). A later row for a step replaces an earlier one.

    Args:
        path: the file.

    Returns:
        The curves, thinned to a few hundred points by averaging; ``None`` when there is nothing to draw.
    """
    data = _bytes(path)
    if data is None:
        return None
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8", errors="replace"))))
    except csv.Error:
        return None
    header = [name.strip() for name in rows[0]] if rows else []
    if "step" not in header:
        return None
    by_step: dict[float, list[float]] = {}
    for row in rows[1:]:
        cells = [_number(cell) for cell in row[: len(header)]]
        cells += [float("nan")] * (len(header) - len(cells))
        step = cells[header.index("step")]
        if np.isfinite(step):
            by_step[step] = cells
    if not by_step:
        return None
    table = _thin(np.array([by_step[step] for step in sorted(by_step)], dtype=np.float64))
    columns = {name: table[:, index] for index, name in enumerate(header)}
    terms = {k: v for k, v in columns.items() if k and k not in _NOT_TERMS and np.isfinite(v).any()}
    total = columns.get("total")
    if total is None or not np.isfinite(total).any():
        if not terms:
            return None
        total = np.sum(list(terms.values()), axis=0)
    return Curves(columns["step"], total, terms)


def _thin(table: Series, points: int = _POINTS) -> Series:
    if len(table) <= points:
        return table
    parts: Sequence[Series] = np.array_split(table, points)
    counts = [np.isfinite(part).sum(axis=0) for part in parts]
    sums = [np.where(np.isfinite(part), part, 0.0).sum(axis=0) for part in parts]
    return np.array([np.where(c > 0, s / np.maximum(c, 1), np.nan) for s, c in zip(sums, counts)])


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        return float("nan")
    return value if np.isfinite(value) else float("nan")


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.stat().st_size <= _LARGEST else None
    except (OSError, ValueError):
        return None


def _inside(directory: Path, relative: str) -> Path | None:
    """The folder of a model, if it lies in its run: a record from elsewhere must not pull other files into the page."""
    normal = os.path.normpath(relative)
    if os.path.isabs(normal) or normal.split(os.sep)[0] == os.pardir:
        return None
    return directory / normal


def _environment(path: Path) -> dict[str, str]:
    data = _bytes(path)
    try:
        raw = json.loads(data) if data else {}
    except ValueError:
        return {}
    return {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in raw.items()} if isinstance(raw, dict) else {}
