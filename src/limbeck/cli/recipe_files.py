"""Recipes that ship with the package, and the user's own YAML files."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from limbeck.cli.words import class_named, take
from limbeck.errors import RecipeError

__all__ = ["RecipeFile", "find_recipe", "shipped_recipes", "with_new_objectives"]

_OBJECTIVES = ("objective", "distillation")  # fields that hold one


@dataclass(frozen=True)
class RecipeFile:
    """A recipe before it is parsed.

    Attributes:
        name: file name without ending.
        path: where it is.
    """

    name: str
    path: Path

    def read(self) -> dict[str, Any]:
        """The file as plain values.

        Raises:
            RecipeError: it is not a YAML mapping.
        """
        try:
            found = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RecipeError(f"{self.path} is not a readable YAML file: {' '.join(str(error).split())}") from None
        if not isinstance(found, dict):
            raise RecipeError(f"{self.path} is not a recipe: expected keys such as title, data, teacher, student")
        return found


def shipped_recipes() -> list[RecipeFile]:
    """The recipes of the package, by name."""
    folder = Path(str(resources.files("limbeck") / "recipes"))
    return [RecipeFile(path.stem, path) for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)]


def find_recipe(name: str) -> RecipeFile:
    """A recipe by its name, or by the path of a YAML file.

    Raises:
        RecipeError: there is no such recipe; names near ones.
    """
    known = {recipe.name: recipe for recipe in shipped_recipes()}
    if name in known:
        return known[name]
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return RecipeFile(path.stem, path)
        raise RecipeError(f"the recipe file {name} does not exist")
    near = difflib.get_close_matches(name, known, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    raise RecipeError(
        f"there is no recipe {name!r}{hint} `limbeck recipes` lists them, or give the path of a .yaml file"
    )


def with_new_objectives(recipe: dict[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """A recipe in which an objective that a command line replaces has no arguments of the former left.

    The parser hands arguments on to another class that has some of the same name. For an image size that is right, but
    a weight or a temperature of one method means something else in another.

    Args:
        recipe: as read; it stays as it is.
        words: the command line, without the recipe's name.
    """
    changed = copy.deepcopy(recipe)
    for name, value in take(words, lambda name: name.rpartition(".")[2].removeprefix("--") in _OBJECTIVES)[0]:
        chosen, part = class_named(value), changed
        for key in name.removeprefix("--").replace(".init_args.", ".").split("."):
            part = part.get(key) or (part.get("init_args") or {}).get(key) or {}
            if not isinstance(part, dict):
                break
        else:
            if chosen is not None and part.get("class_path", chosen) != chosen:
                part.clear()
                part["class_path"] = chosen
    return changed
