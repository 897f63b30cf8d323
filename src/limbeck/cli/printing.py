"""What several commands print: a line, and the tables of runs and sweeps. Imported late, so that help comes fast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from limbeck.metrics.results import RunResults

__all__ = ["print_runs", "print_sweep", "say", "table_console"]

_WIDE = 10_000  # columns: no table is as wide


def say(text: str) -> None:
    """Print one line as it is: a path in it must stay whole, so that it can be copied."""
    from rich.console import Console

    Console().print(text, soft_wrap=True, highlight=False, markup=False)


def table_console() -> Console:
    """Where tables are printed: as wide as the terminal, and in a file or a pipe as wide as they are themselves."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


def print_runs(results: Sequence[RunResults], page: Path) -> None:
    """Print the tables of some runs and the path of their report.

    Args:
        results: of each run.
        page: the report.
    """
    from limbeck.report import results_table, size_table, to_rich
    from limbeck.report.runs import told_apart

    results = told_apart(results)
    console = table_console()
    for table in (results_table(results), size_table(results)):
        if table is not None:
            console.print(to_rich(table))
    say(f"Report: {page}")


def print_sweep(directory: Path, page: Path) -> None:
    """Print the table of a sweep and the path of its report.

    Args:
        directory: of the sweep.
        page: the report.
    """
    from limbeck.report.sweep import print_sweep as print_table

    print_table(directory, table_console())
    say(f"Report: {page}")
