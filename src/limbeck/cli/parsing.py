"""Command lines and recipe files into typed settings: checked against signatures, with messages a person can act on."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import jsonargparse
from jsonargparse import ArgumentParser, Namespace

from limbeck.cli.help_texts import Parser
from limbeck.cli.parser_messages import named, readable, restricted
from limbeck.cli.words import help_wanted
from limbeck.errors import RecipeError

__all__ = ["import_classes", "instantiate", "new_parser", "parse", "parse_unless_help", "to_yaml"]


_FULL = (bool, int, float, str, list, dict, tuple, Sequence, Literal)  # types that have no null


def new_parser(prog: str, description: str, **settings: Any) -> ArgumentParser:
    """A parser that reports errors by raising; ``settings`` are those of :class:`argparse.ArgumentParser`."""
    return Parser(prog=prog, description=description, **settings)


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
        raise RecipeError(restricted(str(error), words) or readable(str(error), _keys(parser))) from None
    except (OSError, TypeError, ValueError) as error:
        raise RecipeError(readable(str(error), _keys(parser))) from None
    options = {action.dest: (getattr(action, "_typehint", None), action.default) for action in parser._actions}
    _check_nulls(found, {key: _with_null(*option) for key, option in options.items()})
    return found


def parse_unless_help(parser: ArgumentParser, words: Sequence[str]) -> Namespace | None:
    """Parse a command line, or print the help if it asks for that.

    Returns:
        What was parsed; ``None`` if the help was printed.

    Raises:
        RecipeError: as :func:`parse`.
    """
    if help_wanted(words):
        parser.print_help()
        return None
    return parse(parser, words)


def _check_nulls(value: Any, options: Mapping[str, Any], key: str = "", hint: Any = None) -> None:
    """Refuse null for what has a type without null: the parser takes it for an argument that is not given.

    Args:
        value: a part of what was parsed.
        options: types of the parser's options by key.
        key: where it stands.
        hint: its type, where that is known.
    """
    parts: Mapping[Any, Any]
    if isinstance(value, Namespace):
        parts, known = _arguments(value, hint)
    elif isinstance(value, list | dict):
        parts = dict(enumerate(value)) if isinstance(value, list) else value
        inner = next((typing.get_args(kind) for kind in _alternatives(hint) if typing.get_args(kind)), (None,))
        known = dict.fromkeys(parts, inner[-1])
    else:
        return
    for name, part in parts.items():
        where = f"{key}.{name}".lstrip(".")
        wanted = known.get(name, options.get(where))
        if part is None and all((typing.get_origin(kind) or kind) in _FULL for kind in _alternatives(wanted)):
            told = wanted.__name__ if isinstance(wanted, type) else str(wanted).removeprefix("typing.")
            raise RecipeError(f"{where} is null, but takes {told}; give one")
        _check_nulls(part, options, where, wanted)


def _arguments(value: Namespace, hint: Any) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """The arguments in a part of what was parsed, of a class that it names or of its own type, and their types."""
    named_class = "class_path" in vars(value)
    parts = value.get("init_args") if named_class else value
    kind = (
        named(value.get("class_path"))
        if named_class
        else next((kind for kind in _alternatives(hint) if dataclasses.is_dataclass(kind)), None)
    )
    return {} if parts is None else vars(parts), {} if kind is None else _types(kind)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The types in a union; another type alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _types(kind: Any) -> dict[str, Any]:
    """The types of the arguments of a class or function."""
    try:
        hints = typing.get_type_hints(kind.__init__ if inspect.isclass(kind) else kind)
        known = inspect.signature(kind).parameters
    except (NameError, TypeError, ValueError):  # names that are imported for type checkers alone
        return {}
    return {name: _with_null(hint, known[name].default) for name, hint in hints.items() if name in known}


def _with_null(hint: Any, default: Any) -> Any:
    """The type of an argument; what is null by default may be null."""
    return hint if default is not None else typing.Optional[hint]  # noqa: UP045 the type is known only here


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


def import_classes() -> None:
    """Import the models and evaluations of this library, since help lists only classes that are imported."""
    import limbeck.engine
    import limbeck.models

    for name in limbeck.engine.__all__:
        if name.endswith("Evaluation"):
            getattr(limbeck.engine, name)


def instantiate(parser: ArgumentParser, found: Namespace) -> Namespace:
    """Build the objects that parsed settings describe.

    Raises:
        RecipeError: a class refuses its arguments.
    """
    try:
        built: Namespace = parser.instantiate_classes(found)
    except jsonargparse.ArgumentError as error:
        raise RecipeError(readable(str(error), _keys(parser))) from None
    except RecipeError as error:
        raise RecipeError(_in_its_group(parser, found, str(error))) from None
    except (TypeError, ValueError) as error:
        raise RecipeError(_in_its_group(parser, found, readable(str(error), ()))) from None
    return built


def _in_its_group(parser: ArgumentParser, found: Namespace, text: str) -> str:
    """A message that begins with a setting's name, with the group before it: a recipe has two trainings."""
    for key, group in vars(found).items():
        if not isinstance(group, Namespace) or text.partition(" ")[0] not in vars(group):
            continue
        try:
            parser.instantiate_classes(Namespace(**{key: group}))  # type: ignore[no-untyped-call]
        except (RecipeError, TypeError, ValueError):
            return f"{key}.{text}"
    return text


def _keys(parser: ArgumentParser) -> list[str]:
    names = [option for action in parser._actions for option in action.option_strings]
    return [name for name in names if name.startswith("--")]


def to_yaml(parser: ArgumentParser, found: Namespace, without: Iterable[str] = ()) -> str:
    """Settings as YAML, in the form that :func:`parse` reads back."""
    kept = found.clone()
    for key in without:
        kept.pop(key, None)
    # Nothing left out: where the default is a setting, "none" has to be said (a teacher that is not trained).
    text: Any = parser.dump(kept, skip_validation=True, skip_none=False)
    return str(text)
