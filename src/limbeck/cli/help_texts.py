"""How help reads: the parser's texts are made from docstrings and types, which are written for readers of code."""

from __future__ import annotations

import argparse
import re
from typing import Any

import jsonargparse
from jsonargparse import ArgumentParser
from typing_extensions import override

__all__ = ["HelpFormatter", "Parser"]

_LISTED = ", known subclasses: "


class HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """Help in words that can be typed: ``null`` instead of ``None``, and only classes and methods that users choose."""

    @override
    def add_argument(self, action: argparse.Action) -> None:
        """Leave out what cannot be given on a command line."""
        if not (action.dest.endswith(".help") and "subclass of Tensor" in (action.help or "")):
            super().add_argument(action)

    @override
    def start_section(self, heading: str | None) -> None:
        """The heading without marks of code."""
        super().start_section(None if heading is None else _plain(heading))

    @override
    def _get_help_string(self, action: argparse.Action) -> str:
        text = str(super()._get_help_string(action) or "")
        head, listed, names = text.partition(_LISTED)
        if listed:
            known, closed, rest = names.partition(")")
            shown = _choosable(known.split(", "))
            text = head + (_LISTED + ", ".join(shown) if shown else "") + closed + rest
        return text

    @override
    def _expand_help(self, action: argparse.Action) -> str:
        return _plain(super()._expand_help(action))


class Parser(ArgumentParser):
    """A parser that raises errors, and whose help, also that of its options, reads as :class:`HelpFormatter` says."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"exit_on_error": False, "formatter_class": HelpFormatter, **settings})


def _plain(text: str) -> str:
    """A docstring as plain text; the help of a whole group of options says that a file can hold them.

    >>> _plain("``None`` for all; see :class:`~limbeck.Pairs` (type: <class 'DGM'>)")
    'null for all; see `limbeck.Pairs` (type: DGM)'
    """
    if text == "Path to a configuration file.":
        return "a YAML file of the settings below"
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text.replace("``None``", "null"))
    return re.sub(r"``([^`]*)``|:\w+:`~?([^`]*)`", lambda found: f"`{found[1] or found[2]}`", text)


def _choosable(names: list[str]) -> list[str]:
    """The names that a user may give: not those of classes that stand in for a teacher inside the library."""
    if any(name.startswith("torch.") for name in names):  # of a function that returns a tensor: no class is wanted
        return []
    if "limbeck.Objective" in names:  # methods are functions; the classes are what they return
        from limbeck.cli.known_classes import known_names

        return known_names("objective")
    internal = _stand_ins()
    return [name for name in names if name.rpartition(".")[2] not in internal]


def _stand_ins() -> set[str]:
    from limbeck.core.stand_in import StandIn

    found, further = {"StandIn"}, list(StandIn.__subclasses__())
    while further:
        kind = further.pop()
        found.add(kind.__name__)
        further += kind.__subclasses__()
    return found
