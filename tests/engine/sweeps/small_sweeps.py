"""Sweeps of a small recipe, as the command line makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limbeck.engine.sweeps.sweep import Sweep
from tests.tiny import write_recipe


def sweep(folder: Path, *words: str, name: str = "sweep", jobs: int = 1, **changes: Any) -> Sweep:
    """As the command line would make it."""
    from limbeck.cli.recipe_parser import RecipeCommand
    from limbeck.cli.sweep import planned

    command = RecipeCommand.of("sweep", [str(write_recipe(folder, **changes)), *words])
    axes, points = planned(command, command.parsed())
    return Sweep(axes, points, name="spots", directory=folder / name, cache=folder / "cache", command="", jobs=jobs)


WIDTHS = "--over=student.width=3,5"
WEIGHTS = "--over=objective.latent_weight=0,1,10"
