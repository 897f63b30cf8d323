"""``limbeck recipes``: what can be run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from limbeck.cli.recipe_files import shipped_recipes
from limbeck.errors import RecipeError

__all__ = ["run"]


def run(words: Sequence[str]) -> None:
    """Print the shipped recipes with size, expected time and source.

    Args:
        words: the command line after ``limbeck recipes``; none are expected.
    """
    if words and words[0] not in ("-h", "--help"):
        raise RecipeError(f"limbeck recipes takes no {words[0]!r}")
    from rich.console import Console
    from rich.table import Column, Table

    # A name that is cut cannot be typed.
    name = Column(no_wrap=True, overflow="ignore", min_width=max(len(found.name) for found in shipped_recipes()))
    table = Table(name, Column(), show_header=False, box=None, pad_edge=False)
    for recipe in shipped_recipes():
        values = recipe.read()
        about = values.get("about", {})
        points = math.prod(len(axis["values"]) for axis in values.get("sweep") or [])
        facts = [about.get("size"), about.get("time"), f"{points} points" if points > 1 else "", about.get("source")]
        # Escaped brackets: "[U] Fig. 4" is text, not markup.
        text, rest = (part.replace("[", r"\[") for part in (values.get("title", ""), " · ".join(filter(None, facts))))
        table.add_row(recipe.name, f"{text}\n[dim]{rest}[/dim]")
    Console().print(table)
