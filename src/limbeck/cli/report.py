"""``limbeck report RUN [RUN ...]``: one page for a run, or one that compares several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limbeck.cli.parsing import new_parser, parse_unless_help
from limbeck.cli.printing import print_runs, print_sweep
from limbeck.cli.sweep import is_sweep
from limbeck.errors import RecipeError

__all__ = ["run"]


def run(words: Sequence[str]) -> None:
    """Write the page and print the tables.

    Args:
        words: the command line after ``limbeck report``.

    Raises:
        RecipeError: a run is a file, or a sweep beside other runs.
    """
    parser = new_parser(
        "limbeck report", "Write the report page of a run or of a sweep, or one page that compares several runs."
    )
    parser.add_argument(
        "runs", type=str, nargs="+", help="directories of runs, e.g. runs/ladder-vae-digits/default, or of one sweep"
    )
    parser.add_argument(
        "--out", type=str, default=None,
        help="file of the page; by default report.html in the directory of a single run or sweep, and comparison.html "
        "in the working directory for several runs",
    )  # fmt: skip
    found = parse_unless_help(parser, words)
    if found is None:
        return
    directories = [Path(run) for run in found.runs]
    file = next((directory for directory in directories if directory.is_file()), None)
    if file is not None:
        raise RecipeError(f"{file} is a file; give the directory of a run, such as runs/ladder-vae-digits/default")
    first = directories[0]
    sweeps = [directory for directory in directories if is_sweep(directory)]
    if sweeps and len(directories) > 1:
        raise RecipeError(
            f"{sweeps[0]} is a sweep, and a page compares runs; give the sweep alone, or those directories inside it "
            "that are its points"
        )
    if sweeps:
        from limbeck.report.sweep import write_sweep_report

        print_sweep(first, write_sweep_report(first, found.out or first / "report.html"))
        return
    from limbeck.metrics.results import RunResults
    from limbeck.report import write_report

    page = write_report(
        directories, found.out or (first / "report.html" if len(directories) == 1 else "comparison.html")
    )
    print_runs([RunResults.from_file(directory / "metrics.json") for directory in directories], page)
