"""``limbeck sweep RECIPE --over KEY=VALUES``: the experiment at every point of a grid, in parallel."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.cli.parsing import new_parser, parse
from limbeck.cli.printing import print_sweep
from limbeck.cli.recipe_parser import OPTIONS, RecipeCommand
from limbeck.cli.words import take
from limbeck.errors import LimbeckError, RecipeError

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from limbeck.engine.experiments.axes import Axis, GridPoint
    from limbeck.engine.sweeps.sweep_plan import Point

__all__ = ["is_sweep", "planned", "run", "run_sweep"]

_USAGE = """\
usage: limbeck sweep RECIPE --over KEY=VALUE,VALUE [--over ...] [--key=value ...] [--jobs=N]
                     [--backend=joblib|ray] [--name=NAME] [--output=DIR] [--dry-run]

Runs the recipe at every point of a grid, for example
  limbeck sweep ladder-vae-digits --over student.width=4,8,16 --over objective.latent_weight=0,1e-3,1
  limbeck sweep RECIPE --over teacher.layers,student.layers=1,5,10    gives two fields the same value
  limbeck sweep RECIPE --help    lists all fields

The sweep is kept in the directory runs/RECIPE/NAME, by default runs/RECIPE/sweep.
Work that several points have in common is done once. --jobs is the number of processes that run in parallel;
--backend=ray uses the machines of a Ray cluster. If the sweep was stopped, the same command continues it.
"""

_FORM = "write --over KEY=VALUE,VALUE, e.g. --over student.width=4,8,16"


def run(words: Sequence[str]) -> None:
    """Parse ``RECIPE --over KEY=VALUE,VALUE ... [--key=value ...]``, run every point, print the table.

    Args:
        words: the command line after ``limbeck sweep``.
    """
    command = RecipeCommand.unless_help("sweep", words, _USAGE)
    if command is not None:
        run_sweep(command, command.parsed())


def run_sweep(command: RecipeCommand, found: Namespace) -> None:
    """Run every point of the grid that a recipe and its command line describe.

    Args:
        command: the recipe and its overrides.
        found: what they were parsed to.

    Raises:
        RecipeError: an axis is empty or doubled, names no field of the recipe, or one that is also overridden.
        LimbeckError: some points failed; the others are finished.
    """
    from limbeck.engine.sweeps.sweep import Sweep
    from limbeck.files import atomic_write_text
    from limbeck.report.sweep import write_sweep_report

    axes, points = planned(command, found)
    directory = command.directory(found)
    if not found.dry_run and (directory / "metrics.json").exists() and not is_sweep(directory):
        raise RecipeError(f"{directory} is a single run; give the sweep another name, for example --name=grid")
    sweep = Sweep(
        axes,
        points,
        name=command.file.name,
        directory=directory,
        cache=command.cache(found),
        command=command.typed,
        jobs=found.jobs,
        backend=found.backend,
        dry_run=found.dry_run,
        finish=write_page,
    )
    atomic_write_text(directory / "recipe.yaml", command.built(found)[1])
    record = sweep.run()
    print_sweep(directory, write_sweep_report(directory, directory / "report.html"))
    if record.failed:
        first, share = record.failed[0], f"{len(record.failed)} of {len(record.points)} points failed"
        others = "the others are finished; " if len(record.failed) < len(record.points) else ""
        raise LimbeckError(f"{share}, first {first.name}: {first.error.rstrip('.')}; {others}the report has all")


def write_page(directory: Path) -> None:
    """Write the page of one point."""
    from limbeck.report import write_report

    write_report([directory], directory / "report.html")


def _axes(command: RecipeCommand, found: Namespace) -> list[Axis]:
    """The axes of the recipe and of the command line; one of the latter replaces one of the same keys."""
    from limbeck.engine.experiments.axes import Axis, check_axes

    typed = [_typed_axis(word) for word in found.over]
    check_axes(typed)
    by_keys = {frozenset(axis.keys): axis for axis in typed}
    axes = []
    for raw in found.sweep:
        values, keys = raw["values"], raw["keys"]
        instead = by_keys.pop(frozenset(keys), None)
        if clash := next((key for own in by_keys for key in keys if key in own), None):
            raise RecipeError(
                f"--over has {clash}, which is on an axis of the recipe; give --over {','.join(keys)}=VALUES to "
                "replace that axis, or --sweep=[] to leave it out"
            )
        axes.append(Axis(keys, values if instead is None else instead.values, raw["label"]))
    axes += by_keys.values()
    if not axes:
        raise RecipeError(f"what to sweep over? {_FORM}")
    check_axes(axes)
    for axis in axes:
        for key in axis.keys:
            _check_key(key, axis, command)
    return axes


def _typed_axis(word: str) -> Axis:
    from limbeck.engine.experiments.axes import Axis

    keys, equals, values = word.partition("=")
    if not equals or not keys:
        raise RecipeError(f"--over {word}: {_FORM}")
    parser = new_parser("", "")
    parser.add_argument("--values", type=list)
    try:
        found = parse(parser, [f"--values=[{values}]"])["values"]
    except RecipeError:
        raise RecipeError(f"--over {word}: the values are not a list in YAML; {_FORM}") from None
    return Axis([key.strip().replace(".init_args.", ".") for key in keys.split(",")], found)


def _check_key(key: str, axis: Axis, command: RecipeCommand) -> None:
    if key.split(".")[0] in (*OPTIONS, "sweep", "about", "title", "description"):
        raise RecipeError(f"the sweep is over {key}, which is not a setting of the experiment")
    given = [word.split("=")[0].replace(".init_args.", ".") for word in command.words]
    if f"--{key}" in given:
        raise RecipeError(
            f"--{key} is given, but the sweep is over {axis.name}; leave one of them out, or give "
            f"--over {','.join(axis.keys)}=VALUE"
        )


def planned(command: RecipeCommand, found: Namespace) -> tuple[list[Axis], list[Point]]:
    """The axes of a sweep, and the run at each point of its grid."""
    from limbeck.engine.experiments.axes import grid

    axes = _axes(command, found)
    return axes, [_point(command, point, found.name) for point in grid(axes)]


def is_sweep(directory: Path) -> bool:
    """Whether a sweep was started in a directory."""
    return (directory / "sweep.json").exists() or (directory / "stages").is_dir()


def _point(command: RecipeCommand, point: GridPoint, sweep: str) -> Point:
    """The ordinary run at one point of the grid. Alone it has a name of its own: it must not replace the sweep."""
    from limbeck.engine.sweeps.sweep_plan import Point

    words = [f"--{key}={_word(value)}" for key, value in point.overrides.items()]
    try:
        recipe, resolved = command.built(command.parsed("--sweep=[]", *words))
    except LimbeckError as error:
        raise RecipeError(f"at {point.name}: {_culprit(command, words) or error}") from None
    once = ["--sweep=[]"] if command.file.read().get("sweep") else []
    alone = ["limbeck", "run", command.recipe, *_overrides(command.words), *once, *words]
    alone.append(f"--name={sweep}-{point.name}")
    return Point(point.name, point.values, recipe, resolved, shlex.join(alone))


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _culprit(command: RecipeCommand, words: Sequence[str]) -> RecipeError | None:
    """Which of several overrides is refused when it stands alone."""
    for word in words:
        try:
            command.parsed("--sweep=[]", word)
        except RecipeError as error:
            return RecipeError(f"{word}: {error}")
    return None


def _overrides(words: Sequence[str]) -> list[str]:
    """The words that change the recipe: those of the point alone, without those that concern the sweep."""
    return take(words, ("--over", "--jobs", "--backend", "--name", "--output").__contains__)[1]
