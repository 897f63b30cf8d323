"""A command line before there is a parser: what the parser accepts, and its defaults, may depend on these words."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from limbeck.errors import RecipeError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

__all__ = ["argument", "class_named", "help_wanted", "import_modules", "option", "settings_texts", "take",
           "take_settings"]  # fmt: skip


def option(words: Sequence[str], name: str) -> str | None:
    """The last value of an option; ``None`` if it is not given, or without a value."""
    found = None
    for position, word in enumerate(words):
        if word.startswith(f"{name}="):
            found = word.removeprefix(f"{name}=")
        elif word == name and position + 1 < len(words):
            found = words[position + 1]
    return found


def argument(words: Sequence[str], flags: Sequence[str] = ()) -> str | None:
    """The first word that is neither an option nor the value of one.

    Args:
        words: the command line.
        flags: the options that take no value.

    >>> argument(["--seed", "3", "--bound", "model"], flags=["--bound"])
    'model'
    """
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            return word
        if "=" not in word and word not in flags:
            next(rest, None)
    return None


def take(words: Sequence[str], wanted: Callable[[str], bool]) -> tuple[list[tuple[str, str]], list[str]]:
    """Separate some options from the other words.

    Args:
        words: the command line.
        wanted: whether an option of this name, such as ``"--seed"``, is one of them.

    Returns:
        Names and values of these options, and the other words, both in their order.

    >>> take(["--match", "a:kd", "--seed=3", "--match=b:vid"], "--match".__eq__)
    ([('--match', 'a:kd'), ('--match', 'b:vid')], ['--seed=3'])
    """
    taken: list[tuple[str, str]] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if wanted(name):
            taken.append((name, value if equals else next(rest, "")))
        else:
            others.append(word)
    return taken, others


def take_settings(words: Sequence[str], role: str) -> tuple[dict[str, Any], list[str]]:
    """``--ROLE.KEY=VALUE`` of a command line as YAML values, and the other words.

    Values are read as the parser reads those of all other options: ``1e-3`` is a number there, but none in plain YAML.

    Raises:
        RecipeError: a value is not valid YAML.
    """
    from jsonargparse import get_loader

    prefix = f"--{role}."
    taken, others = take(words, lambda name: name.startswith(prefix))
    settings: dict[str, Any] = {}
    for name, value in taken:
        try:
            settings[name.removeprefix(prefix)] = get_loader("yaml")(value)
        except yaml.YAMLError:
            raise RecipeError(f"{name}={value} is not a number, text, list or mapping in YAML") from None
    return settings, others


def settings_texts(words: Sequence[str], role: str) -> dict[str, str]:
    """``--ROLE.KEY=VALUE`` of a command line as typed: ``007`` is a number in YAML, but a name for who takes a text.

    >>> settings_texts(["--student.name=007", "--seed=1"], "student")
    {'name': '007'}
    """
    prefix = f"--{role}."
    return {name.removeprefix(prefix): text for name, text in take(words, lambda name: name.startswith(prefix))[0]}


def class_named(value: str) -> str | None:
    """The class or function that the value of an option names, by its path or in a mapping; ``None`` if it names none.

    >>> class_named("limbeck.methods.local"), class_named("{class_path: mine.Model}"), class_named("3")
    ('limbeck.methods.local', 'mine.Model', None)
    """
    try:
        found = yaml.safe_load(value)
    except yaml.YAMLError:
        return None
    found = found.get("class_path") if isinstance(found, dict) else found
    return found if isinstance(found, str) else None


def import_modules(parser: ArgumentParser, words: Sequence[str]) -> None:
    """Add ``--import=MODULE`` to a parser and import that module: a saved model may only name classes known already.

    Args:
        parser: gets the option.
        words: the command line; the option may be given several times.

    Raises:
        RecipeError: a module cannot be imported.
    """
    parser.add_argument(
        "--import", type=str, default=None, help="your own module that defines the class of the model; may be repeated"
    )
    for _, name in take(words, "--import".__eq__)[0]:
        try:
            importlib.import_module(name)
        except (ImportError, TypeError, ValueError) as error:
            raise RecipeError(
                f"--import={name}: {error}; run the command in the module's directory, or set PYTHONPATH"
            ) from None


def help_wanted(words: Sequence[str]) -> bool:
    """Whether the command line asks for help."""
    return any(word in ("-h", "--help") for word in words)
