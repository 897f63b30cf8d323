"""What several commands print: a line, and the tables of runs and sweeps. Imported late, so that help comes fast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limbeck.metrics.results import RunResults

__all__ = ["print_runs", "print_sweep", "say"]


def say(text: str) -> None:
    """Print one line as it is: a path in it must stay whole, so that it can be copied."""
    from rich.console import Console

    Console().print(text, soft_wrap=True, highlight=False, markup=False)


def print_runs(results: Sequence[RunResults], page: Path) -> None:
    """Print the tables of some runs and the path of their report.

    Args:
        results: of each run.
        page: the report.
    """
    from rich.console import Console

    from limbeck.report import results_table, size_table, to_rich

    console = Console()
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
    from rich.console import Console

    from limbeck.report.sweep import print_sweep as print_table

    print_table(directory, Console())
    say(f"Report: {page}")
