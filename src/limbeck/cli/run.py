"""``limbeck run RECIPE``: the whole experiment, continued where it stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from limbeck.cli.printing import print_runs
from limbeck.cli.recipe_parser import RecipeCommand
from limbeck.errors import RecipeError

__all__ = ["run"]

_USAGE = """\
usage: limbeck run RECIPE [--key=value ...] [--name=NAME] [--output=DIR] [--dry-run]

RECIPE is a name from `limbeck recipes` or the path of a YAML file. Every field can be overridden, for example
  limbeck run ladder-vae-digits --seed=3 --student.width=4 --objective.latent_weight=0.1
  limbeck run RECIPE --help    lists all fields

The run is kept in the directory runs/RECIPE/NAME, by default runs/RECIPE/default. If it was stopped, the same command
continues it.
A recipe with a sweep is run at every point of its grid; --sweep=[] runs it once.
"""


def run(words: Sequence[str]) -> None:
    """Parse ``RECIPE [--key=value ...]``, run it, print the tables and the path of the report.

    Args:
        words: the command line after ``limbeck run``.
    """
    command = RecipeCommand.unless_help("run", words, _USAGE)
    if command is None:
        return
    found = command.parsed()
    from limbeck.cli.sweep import is_sweep, run_sweep

    if found.sweep or found.over:
        run_sweep(command, found)
        return
    if found.jobs is not None or found.backend != "joblib":
        option = "backend" if found.jobs is None else "jobs"
        raise RecipeError(f"--{option} is for the points of a sweep, but this is a single run; leave it out")
    from limbeck.engine.experiments.experiment import Experiment
    from limbeck.engine.stages.progress import Progress
    from limbeck.engine.stages.ranks import is_main_process
    from limbeck.engine.stages.terminal_progress import TerminalProgress
    from limbeck.report import write_report

    directory = command.directory(found)
    if not found.dry_run and is_sweep(directory):
        raise RecipeError(f"{directory} is a sweep; give the single run another name, for example --name=once")
    recipe, resolved = command.built(found)
    with TerminalProgress() if is_main_process() else contextlib.nullcontext(Progress()) as progress:
        results = Experiment(
            recipe,
            resolved=resolved,
            name=command.file.name,
            directory=directory,
            cache=command.cache(found),
            command=command.typed,
            progress=progress,
            dry_run=found.dry_run,
        ).run()
    if is_main_process():
        print_runs([results], write_report([directory], directory / "report.html"))
