"""Command lines and recipe files into typed settings: checked against signatures, with messages a person can act on."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
import typing
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import jsonargparse
import yaml
from jsonargparse import ArgumentParser, Namespace

from limbeck.errors import RecipeError

__all__ = ["argument", "help_wanted", "import_modules", "instantiate", "new_parser", "option", "parse", "print_help",
           "take_settings", "to_yaml"]  # fmt: skip


_FULL = (bool, int, float, str, list, dict, tuple, Literal)  # types that have no null


def new_parser(prog: str, description: str) -> ArgumentParser:
    """A parser that reports errors by raising."""
    return ArgumentParser(prog=prog, description=description, exit_on_error=False)


def parse(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    """Parse a command line.

    Args:
        parser: what is accepted.
        words: the command line.

    Raises:
        RecipeError: an option is unknown or has a wrong value; names it and near ones.
    """
    try:
        found: Namespace = parser.parse_args(list(words))
    except jsonargparse.ArgumentError as error:
        further = _further(list(words), str(error))
        if further is not None:
            return parse(parser, further)
        raise RecipeError(_readable(str(error), _keys(parser))) from None
    except (OSError, TypeError, ValueError) as error:
        raise RecipeError(_readable(str(error), _keys(parser))) from None
    _check_nulls(found)
    return found


def _check_nulls(value: Any, key: str = "", kind: Any = None) -> None:
    """Refuse null for an argument whose type has none: the parser takes it for one that is not given.

    Args:
        value: a part of what was parsed.
        key: where it stands.
        kind: the class or function whose arguments it holds, if it does.
    """
    if isinstance(value, list):
        value = dict(enumerate(value))
    parts = vars(value) if isinstance(value, Namespace) else value
    if not isinstance(parts, dict):
        return
    types = {} if kind is None else _types(kind)
    for name, part in parts.items():
        arguments = name == "init_args"
        where = key if arguments else f"{key}.{name}".lstrip(".")
        if part is None and name in types:
            raise RecipeError(f"{where} is null, but {kind.__name__} takes {types[name]} there; give one")
        _check_nulls(part, where, _named(parts.get("class_path")) if arguments else None)


def _types(kind: Any) -> dict[str, str]:
    """The types of those arguments of a class or function that cannot be null."""
    try:
        hints = typing.get_type_hints(kind.__init__ if inspect.isclass(kind) else kind)
        known = inspect.signature(kind).parameters
    except (NameError, TypeError, ValueError):  # names that are imported for type checkers alone
        return {}
    return {
        name: getattr(hint, "__name__", str(hint))
        for name, hint in hints.items()
        if name in known and known[name].default is not None and (typing.get_origin(hint) or hint) in _FULL
    }


def _named(path: Any) -> Any:
    """The class or function that a path names, if its module is imported."""
    module, _, name = str(path).rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def _further(words: list[str], text: str) -> list[str] | None:
    """Words with one more option spelt as the parser wants those that a class takes beyond its named ones.

    ``--student.transforms=3`` becomes ``--student.dict_kwargs.transforms=3`` if the student's class has ``**settings``.

    Args:
        words: the command line.
        text: what the parser said of them.

    Returns:
        The new command line, or ``None`` if that is not what is wrong.
    """
    text = " ".join(text.split())
    found = re.search(r'"([\w.]+)": .*class_path .([\w.]+).: *Option .([\w.]+). is not accepted', text)
    if found is None:
        return None
    key, kind, name = found.groups()
    module, _, class_name = kind.rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), class_name)).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    pattern = re.compile(rf"--{re.escape(key)}\.(?:init_args\.)?{re.escape(name)}(?=[.=]|$)")
    further = [pattern.sub(f"--{key}.dict_kwargs.{name}", word) for word in words]
    return further if further != words else None


def instantiate(parser: ArgumentParser, found: Namespace) -> Namespace:
    """Build the objects that parsed settings describe.

    Raises:
        RecipeError: a class refuses its arguments.
    """
    try:
        built: Namespace = parser.instantiate_classes(found)
    except jsonargparse.ArgumentError as error:
        raise RecipeError(_readable(str(error), _keys(parser))) from None
    except (TypeError, ValueError) as error:
        raise RecipeError(_readable(str(error), ())) from None
    return built


def _keys(parser: ArgumentParser) -> list[str]:
    names = [option for action in parser._actions for option in action.option_strings]
    return [name for name in names if name.startswith("--")]


def _readable(text: str, known: Iterable[str]) -> str:
    """The parser's message on one line, with near options for a misspelt one."""
    text = re.sub(r"\s*\n\s*[-–]?\s*", " ", text.strip())
    text = re.sub(r"^(Parser key|error:)\s*", "", text)
    word, options = _unknown(text, [name.removeprefix("--") for name in known])
    near = difflib.get_close_matches(word, options, n=2) or difflib.get_close_matches(
        word.split(".")[0], sorted({name.split(".")[0] for name in options}), n=2
    )
    if near and word not in near:
        text += f"; did you mean {' or '.join(near)}?"
    return text


def _unknown(text: str, known: list[str]) -> tuple[str, list[str]]:
    """The misspelt word in a message, and what it may have been meant to be."""
    argument = re.search(r".*class_path '([\w.]+)'.*Option '([\w.]+)' is not accepted", text)
    if argument:
        kind = _named(argument[1])
        return argument[2], list(inspect.signature(kind).parameters) if callable(kind) else []
    part = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text)
    if part:
        return f"{part[1]}.{part[2]}", known
    word = re.search(r"(?:unrecognized arguments:|Key|Option) '?(?:--)?([\w.-]+)'?", text)
    return (word[1].split("=")[0], known) if word else ("", [])


def option(words: Sequence[str], name: str) -> str | None:
    """The last value of an option, before there is a parser: what the parser accepts may depend on it."""
    found = None
    for position, word in enumerate(words):
        if word.startswith(f"{name}="):
            found = word.removeprefix(f"{name}=")
        elif word == name and position + 1 < len(words):
            found = words[position + 1]
    return found


def argument(words: Sequence[str], flags: Sequence[str] = ()) -> str | None:
    """The first word that is neither an option nor the value of one, before there is a parser.

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


def take_settings(words: Sequence[str], role: str) -> tuple[dict[str, Any], list[str]]:
    """``--ROLE.KEY=VALUE`` of a command line as YAML values, and the other words.

    Raises:
        RecipeError: a value is no YAML.
    """
    settings: dict[str, Any] = {}
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith(f"--{role}."):
            others.append(word)
            continue
        key, equals, value = word.removeprefix(f"--{role}.").partition("=")
        value = value if equals else next(rest, "")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RecipeError(f"--{role}.{key}={value} is not a number, text, list or mapping in YAML") from None
    return settings, others


def import_modules(parser: ArgumentParser, words: Sequence[str]) -> None:
    """Give a parser ``--import=MODULE`` and obey it: a model directory may only name classes that are imported.

    Raises:
        RecipeError: there is no such module.
    """
    parser.add_argument("--import", type=str, default=None, help="module of your own with the saved model's class")
    name = option(words, "--import")
    try:
        if name:
            importlib.import_module(name)
    except ImportError as error:
        raise RecipeError(f"--import={name}: {error}; run in the directory of the module, or set PYTHONPATH") from None


def help_wanted(words: Sequence[str]) -> bool:
    """Whether the command line asks for help."""
    return any(word in ("-h", "--help") for word in words)


def print_help(parser: ArgumentParser) -> None:
    """Write a parser's help to standard output."""
    sys.stdout.write(parser.format_help())


def to_yaml(parser: ArgumentParser, found: Namespace, without: Iterable[str] = ()) -> str:
    """Settings as YAML, in the form that :func:`parse` reads back."""
    kept = found.clone()
    for key in without:
        kept.pop(key, None)
    # Nothing left out: where the default is a setting, "none" has to be said (a teacher that is not trained).
    text: Any = parser.dump(kept, skip_validation=True, skip_none=False)
    return str(text)
