"""``limbeck run RECIPE``: the whole experiment, continued where it stopped."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence

from limbeck.cli.recipe_parser import RecipeCommand, recipe_wanted

__all__ = ["run"]


def run(words: Sequence[str]) -> None:
    """Parse ``RECIPE [--key=value ...]``, run it, print the table and the path of the report.

    Args:
        words: the command line after ``limbeck run``.
    """
    if words and words[0] in ("-h", "--help"):
        _usage()
        return
    recipe_wanted(words, "run")
    from limbeck.engine.experiments.experiment import Experiment
    from limbeck.engine.stages.environment import is_main_process
    from limbeck.engine.stages.progress import SilentProgress, TerminalProgress
    from limbeck.report import results_table, size_table, to_rich, write_report

    command = RecipeCommand.of("run", words)
    if "--help" in words[1:] or "-h" in words[1:]:
        command.parser.print_help()
        return
    found = command.parsed()
    if found.sweep or found.over:
        from limbeck.cli.sweep import run_sweep

        run_sweep(command, found, shlex.join(["limbeck", "run", *words]))
        return
    directory = command.directory(found)
    recipe, resolved = command.built(found)
    with TerminalProgress() if is_main_process() else contextlib.nullcontext(SilentProgress()) as progress:
        results = Experiment(
            recipe,
            resolved=resolved,
            name=command.file.name,
            directory=directory,
            cache=command.cache(found),
            command=shlex.join(["limbeck", "run", *words]),
            progress=progress,
            dry_run=found.dry_run,
        ).run()
    if is_main_process():
        from rich.console import Console

        page = write_report([directory], directory / "report.html")
        console = Console()
        for table in (results_table([results]), size_table([results])):
            if table is not None:
                console.print(to_rich(table))
        console.print(f"Report: {page}", soft_wrap=True, highlight=False)


def _usage() -> None:
    import sys

    sys.stdout.write(
        "usage: limbeck run RECIPE [--key=value ...] [--name=NAME] [--output=DIR] [--dry-run]\n\n"
        "RECIPE is a name from `limbeck recipes` or a YAML file. Every field can be overridden, for example\n"
        "  limbeck run ladder-vae-digits --seed=3 --student.width=4 --objective.latent_weight=0.1\n"
        "  limbeck run RECIPE --help    tells all fields\n\n"
        "Runs are kept in runs/RECIPE/NAME. The same command continues a run that was stopped.\n"
        "A recipe with a sweep is run at every point of its grid; --sweep=[] runs it once.\n"
    )
