"""The classes and functions that options name: what there is, what was meant, and the help of one."""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from limbeck.cli.words import option
from limbeck.errors import RecipeError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

__all__ = ["known_names", "meant", "print_class_help", "print_help_of_recipe", "told"]

_ROOMS = {
    "objective": "methods",
    "data": "data",
    "teacher_data": "data",
    "evaluation": "engine",
    "student": "models",
    "teacher": "models",
}
"""Option to the package whose public names it takes."""


def known_names(key: str) -> list[str]:
    """The public names that an option takes, such as ``limbeck.methods.vanilla``.

    Args:
        key: the option without dashes; for one that takes no such names there are none.
    """
    room = _ROOMS.get(key)
    if room is None:
        return []
    package = importlib.import_module(f"limbeck.{room}")
    return [f"limbeck.{room}.{name}" for name in package.__all__ if _fits(room, getattr(package, name))]


def meant(key: str, name: str) -> list[str]:
    """The public names near one that is not known: of its last part, in the package of the option.

    Args:
        key: the option without dashes.
        name: as typed.
    """
    ends = {known.rpartition(".")[2].lower(): known for known in known_names(key)}
    near = difflib.get_close_matches(name.rpartition(".")[2].lower(), ends, n=2)
    return [ends[end] for end in near]


def print_class_help(words: Sequence[str]) -> bool:
    """Print what ``--objective.help`` or the like asks for: the arguments of a class or method, or the names there are.

    The parser's own help knows classes alone; most objectives are functions.

    Args:
        words: a command line.

    Returns:
        Whether it asks for that.

    Raises:
        RecipeError: there is nothing of the name given.
    """
    for word in words:
        name = word.partition("=")[0]
        found = re.fullmatch(r"--(?:baselines\.(?:[^.]+\.)?)?(\w+)\.help", name)
        if found and found[1] in _ROOMS:
            given = option(words, name)
            _print_help(found[1], None if given is None or given.startswith("-") else given)
            return True
    return False


def print_help_of_recipe(recipe: Mapping[str, Any]) -> None:
    """Print the arguments of the classes and the method that a recipe names, with the values that it gives them.

    Args:
        recipe: as read from its file.
    """
    for key in _ROOMS:
        given = recipe.get(key)
        name = given.get("class_path") if isinstance(given, dict) else given
        if not isinstance(name, str):
            continue
        try:
            parser = _parser_of(key, name, usage=argparse.SUPPRESS, add_help=False)
            values = (given.get("init_args") or {}) if isinstance(given, dict) else {}
            parser.set_defaults({f"{key}.{field}": value for field, value in values.items()})
        except (RecipeError, KeyError, TypeError, ValueError):
            continue  # what is wrong with a recipe is said when it is run
        sys.stdout.write(f"\n--{key} of this recipe: {parser.format_help()}")


def _print_help(key: str, given: str | None) -> None:
    if given is None:
        names = "\n".join(f"  {name}" for name in known_names(key))
        sys.stdout.write(f"--{key} takes one of these, or your own as module.name:\n{names}\n")
        sys.stdout.write(f"--{key}.help NAME tells the arguments of one.\n")
        return
    _parser_of(key, given).print_help()


def _parser_of(key: str, given: str, **settings: Any) -> ArgumentParser:
    """A parser whose options are the arguments of a class or function.

    Args:
        key: the option that names it.
        given: its name.
        settings: of the parser.

    Raises:
        RecipeError: there is nothing of this name.
    """
    from limbeck.cli.parsing import new_parser

    path = given if "." in given else f"limbeck.{_ROOMS[key]}.{given}"
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise RecipeError(f"--{key}.help={given}: there is no such name{told(meant(key, given))}") from None
    if not callable(found):
        raise RecipeError(f"--{key}.help={given}: this is no class and no function{told(meant(key, given))}")
    parser = new_parser("limbeck", f"The arguments of {path}.", **settings)
    add = parser.add_class_arguments if inspect.isclass(found) else parser.add_function_arguments
    add(found, key, as_group=False)
    return parser


def told(names: Sequence[str]) -> str:
    """What was perhaps meant, as the end of a message."""
    return f"; did you mean {' or '.join(names)}?" if names else ""


def _fits(room: str, value: Any) -> bool:
    """Whether a public name of a package is something that its option takes."""
    if room == "methods":
        from limbeck.core.objective import Objective

        return issubclass(value, Objective) if inspect.isclass(value) else callable(value)
    from limbeck.core.graph import DGM
    from limbeck.data import DataSource
    from limbeck.engine import Evaluation

    kind = {"data": DataSource, "engine": Evaluation, "models": DGM}[room]
    return inspect.isclass(value) and issubclass(value, kind) and not inspect.isabstract(value)
