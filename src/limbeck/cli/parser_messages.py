"""What the parser says of a wrong word, in words a person can act on."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from limbeck.cli.known_classes import meant, told
from limbeck.cli.words import option

__all__ = ["named", "readable", "restricted"]

_WANTED = {"PositiveInt": "a whole number of at least 1", "NonNegativeFloat": "a number of at least 0"}
"""What the restricted types of options accept, in words."""


def named(path: Any) -> Any:
    """The class or function that a path names, if its module is imported."""
    module, _, name = str(path).rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def restricted(text: str, words: Sequence[str]) -> str | None:
    """The parser's message about an option with few or bounded values, in plain words; ``None`` for other messages."""
    union = r"(?:Does not validate .*?Subtypes: .*?, <class 'NoneType'>\] Errors: )?"
    found = re.match(
        rf'(?:Parser key )?"([\w-]+)": {union}(?:Not of type (\w+)|Expected a typing\.Literal\[([^]]+)\])',
        " ".join(text.replace(" - ", " ").split()),
    )
    if found is None:
        return None
    name, kind, choices = found.groups()
    given = option(words, f"--{name}")
    if given is None or (choices is None and kind not in _WANTED):
        return None
    return (
        f"--{name} must be {_WANTED[kind]}, not {given}"
        if choices is None
        else (f"--{name} must be one of {choices}, not {given!r}")
    )


def readable(text: str, known: Iterable[str]) -> str:
    """The parser's message on one line, with near options for a misspelt one."""
    text = re.sub(r"\s*\n\s*[-–]?\s*", " ", text.strip())
    text = re.sub(r"^(Parser key|error:)\s*", "", text)
    text = _without_class(text) or _of_the_last_type(text)
    flag = re.match(r"argument (?:\S+/)?(--\S+): ignored explicit argument '(.*)'", text)
    if flag:
        return f"{flag[1]} takes no value; write it without ={flag[2]}"
    lacking = re.search(
        r'^"([\w.]+)": .*class_path \'[\w.]*?(\w+)\':? the following arguments are required: ([\w, ]+)', text
    )
    if lacking:
        return f"--{lacking[1]}: {lacking[2]} needs {lacking[3].strip()}, which is not given"
    group = re.match(r"\"([\w.]+)\": Unable to load config 'null'", text)
    if group:
        return f"--{group[1]} stands for several fields and cannot be null; leave it out, or give --{group[1]}.FIELD"
    nothing = re.search(
        r'^"([\w.]+)": .*?(?:Expected a dot import path string: |Problem with given class_path \')([^\s\']+)'
        r"(?!.*(?:Parser key|Option|Key ))",
        text,
    )
    if nothing and (nothing[2].startswith("limbeck.") or "." not in nothing[2]):
        keys = [nothing[1], *re.findall(r'Parser key "([\w.]+)"', nothing[0])]
        near = meant(keys[-1].split(".")[0], nothing[2])
        return f"--{'.'.join(keys)}={nothing[2].rstrip(':')}: there is no such class or function{told(near)}"
    blank = re.search(r'^"([\w.]+)": (?:.*Parser key "([\w.]+)": )?(?:unhashable type|argument of type)', text)
    if blank:
        where = ".".join(filter(None, blank.groups()))
        return f"--{where}: class_path must be the name of a class or function, as in module.name"
    word, options = _unknown(text, [name.removeprefix("--") for name in known])
    near = difflib.get_close_matches(word, options, n=2) or difflib.get_close_matches(
        word.split(".")[0], sorted({name.split(".")[0] for name in options}), n=2
    )
    if near and word not in near:
        text += f"; did you mean {' or '.join(near)}?"
    return text


def _without_class(text: str) -> str | None:
    """What to say of an argument of a class where no class is given."""
    found = re.search(r'^"([\w.]+)": .* is abstract.*NestedArg\(key=\'([\w.]+)\'', text)
    return found and f"--{found[1]}.{found[2]}: an argument of what? Give --{found[1]}=CLASS first"


def _of_the_last_type(text: str) -> str:
    """The message without the types that were tried and the value as the parser holds it, which nobody typed."""
    text = re.sub(r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: ", "", text)
    text, _, value = text.partition(" Given value type: ")
    text = re.sub(r" Expected a <class 'NoneType'>(?:\. Got value: .*)?$", "", text)
    text = re.sub(r"\.? Got value: Namespace\(.*", "", text)
    typed = re.split(" Expected a <class| Given value", value.partition(" Given value: ")[2])[0]
    if not typed or typed in text or "Got value" in text or typed.startswith(("Namespace(", "NestedArg(", "{")):
        return text
    return f"{text}: {typed}"


def _unknown(text: str, known: list[str]) -> tuple[str, list[str]]:
    """The misspelt word in a message, and what it may have been meant to be."""
    argument = re.search(r".*class_path '([\w.]+)'.*Option '([\w.]+)' is not accepted", text)
    if argument:
        kind = named(argument[1])
        return argument[2], list(inspect.signature(kind).parameters) if callable(kind) else []
    part = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text)
    if part:
        return f"{part[1]}.{part[2]}", known
    word = re.search(r"(?:unrecognized arguments:|Key|Option) '?(?:--)?([\w.-]+)'?", text)
    return (word[1].split("=")[0], known) if word else ("", [])
