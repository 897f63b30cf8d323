"""``limbeck run RECIPE``: the whole experiment, continued where it stopped."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from limbeck.cli.parsing import instantiate, new_parser, parse, to_yaml
from limbeck.cli.recipe_files import find_recipe
from limbeck.errors import RecipeError

__all__ = ["run"]

_OPTIONS = ("name", "output", "dry_run", "config")


def run(words: Sequence[str]) -> None:
    """Parse ``RECIPE [--key=value ...]``, run it, print the table and the path of the report.

    Args:
        words: the command line after ``limbeck run``.
    """
    if not words or words[0].startswith("-"):
        if words and words[0] in ("-h", "--help"):
            _usage()
            return
        raise RecipeError("which recipe? limbeck run RECIPE [--key=value ...]; `limbeck recipes` lists them")
    from limbeck.engine.environment import is_main_process
    from limbeck.engine.experiment import Experiment
    from limbeck.engine.progress import SilentProgress, TerminalProgress
    from limbeck.engine.recipe import Recipe
    from limbeck.report import results_table, size_table, to_rich, write_report

    file = find_recipe(words[0])
    file.read()
    parser = new_parser(f"limbeck run {file.name}", "Any field of the recipe can be overridden.")
    parser.add_argument("--config", action="config", help="further YAML files with overrides")
    parser.add_argument("--name", type=str, default="default", help="name of the run")
    parser.add_argument("--output", type=str, default="runs", help="where runs are kept")
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="a few steps of every stage")
    parser.add_class_arguments(Recipe)
    if "--help" in words[1:] or "-h" in words[1:]:
        parser.print_help()
        return
    found = parse(parser, ["--config", str(file.path), *words[1:]])
    resolved = to_yaml(parser, found, without=_OPTIONS)
    built = instantiate(parser, found)
    recipe = Recipe(**{key: value for key, value in vars(built).items() if key not in _OPTIONS})
    name = "dry-run" if found.dry_run and found.name == "default" else found.name
    if found.dry_run:
        recipe = recipe.dry()
    output = Path(found.output)
    directory = output / file.name / name
    with TerminalProgress(recipe.steps) if is_main_process() else contextlib.nullcontext(SilentProgress()) as progress:
        results = Experiment(
            recipe,
            resolved=resolved,
            name=file.name,
            directory=directory,
            cache=output / "cache",
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
    )
