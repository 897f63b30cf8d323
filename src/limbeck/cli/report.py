"""``limbeck report RUN [RUN ...]``: one page for a run, or one that compares several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limbeck.cli.parsing import help_wanted, new_parser, parse
from limbeck.errors import RecipeError

__all__ = ["run"]


def run(words: Sequence[str]) -> None:
    """Write the page and print the table.

    Args:
        words: the command line after ``limbeck report``.

    Raises:
        RecipeError: a run is a file.
    """
    parser = new_parser("limbeck report", "Write the report page of a run, or one page that compares several.")
    parser.add_argument("runs", type=str, nargs="+", help="run directories, e.g. runs/ladder-vae-digits/default")
    parser.add_argument("--out", type=str, default=None, help="the page; by default report.html in a single run, "
                        "comparison.html here for several")  # fmt: skip
    if help_wanted(words):
        parser.print_help()
        return
    found = parse(parser, words)
    from rich.console import Console

    from limbeck.metrics.results import RunResults
    from limbeck.report import results_table, size_table, to_rich, write_report

    directories = [Path(run) for run in found.runs]
    file = next((directory for directory in directories if directory.is_file()), None)
    if file is not None:
        raise RecipeError(f"{file} is a file; give the directory of a run, such as runs/ladder-vae-digits/default")
    if len(directories) == 1 and (directories[0] / "sweep.json").exists():
        from limbeck.report.sweep import print_sweep, write_sweep_report

        page = write_sweep_report(directories[0], found.out or directories[0] / "report.html")
        print_sweep(directories[0], Console())
        Console().print(f"Report: {page}", soft_wrap=True, highlight=False)
        return
    default = directories[0] / "report.html" if len(directories) == 1 else Path("comparison.html")
    page = write_report(directories, found.out or default)
    results = [RunResults.from_file(directory / "metrics.json") for directory in directories]
    console = Console()
    for table in (results_table(results), size_table(results)):
        if table is not None:
            console.print(to_rich(table))
    console.print(f"Report: {page}", soft_wrap=True, highlight=False)
