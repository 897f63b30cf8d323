"""Reading a run directory. What is damaged or not there becomes ``None``: a report shows what there is."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from limbeck.metrics.results import ModelResult, RunResults
from limbeck.report.curves import Curves, Series, file_bytes, read_curves, read_variances

__all__ = ["Model", "Picture", "Run", "read_picture", "read_run", "told_apart"]

_OTHER_SETTINGS = (
    "This run was started again with other settings, those of its recipe.yaml, and has not finished with them: the "
    "numbers are those of the settings shown here, while pictures and curves may be of either."
)


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
        curves: ``history.csv``.
        others: name to picture, of the kinds that the run says its models may have.
        variances: ``variances.json``: site to the learned variance of each of its channels, largest first.
    """

    result: ModelResult
    picture: Picture | None
    curves: Curves | None
    others: dict[str, Picture] = field(default_factory=dict)
    variances: dict[str, Series] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
        directory: where it is.
        results: its ``metrics.json``.
        models: one for each result.
        recipe: the recipe by which the results were made; the text of ``recipe.yaml`` if they do not say.
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
            models.append(Model(result, None, None))
            continue
        pictures = {kind.name: _picture_inside(folder, kind.file) for kind in results.pictures}
        others = {name: picture for name, picture in pictures.items() if picture is not None}
        curves, variances = read_curves(folder / "history.csv"), read_variances(folder / "variances.json")
        models.append(Model(result, read_picture(folder / "samples.png"), curves, others, variances))
    written = file_bytes(directory / "recipe.yaml")
    recipe = None if written is None else written.decode("utf-8", errors="replace")
    if results.resolved and recipe is not None and recipe != results.resolved:
        results = dataclasses.replace(results, notes=[_OTHER_SETTINGS, *results.notes])
    return Run(
        directory=directory,
        results=results,
        models=models,
        recipe=results.resolved or recipe,
        environment=results.environment or _environment(directory / "environment.json"),
    )


def told_apart(results: Sequence[RunResults]) -> list[RunResults]:
    """The records of runs under names that tell them apart: recipe/name, then numbered, where names repeat."""
    names = [run.name for run in results]
    if len(set(names)) < len(names):
        names = [f"{run.recipe}/{run.name}" for run in results]
    if len(set(names)) < len(names):
        names = [f"{name} ({index})" for index, name in enumerate(names, start=1)]
    return [dataclasses.replace(run, name=name) for run, name in zip(results, names)]


def read_picture(path: Path) -> Picture | None:
    """Read a PNG file as a data URI with its width and height; ``None`` when it cannot be shown."""
    from PIL import Image

    data = file_bytes(path)
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()  # a file that was cut off opens, but does not load
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return Picture("data:image/png;base64," + base64.b64encode(data).decode("ascii"), width, height)


def _inside(directory: Path, relative: str) -> Path | None:
    """The folder of a model, if it lies in its run: a record from elsewhere must not pull other files into the page."""
    normal = os.path.normpath(relative)
    if os.path.isabs(normal) or normal.split(os.sep)[0] == os.pardir:
        return None
    return directory / normal


def _picture_inside(folder: Path, file: str) -> Picture | None:
    """A picture that lies in a folder itself, for the same reason."""
    return read_picture(folder / file) if Path(file).name == file else None


def _environment(path: Path) -> dict[str, str]:
    data = file_bytes(path)
    try:
        raw = json.loads(data) if data else {}
    except ValueError:
        return {}
    return {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in raw.items()} if isinstance(raw, dict) else {}
