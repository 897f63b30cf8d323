"""The code of a script or a notebook: of all that is defined there, what a model or an objective is made of."""

from __future__ import annotations

import dis
import functools
import inspect
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from limbeck.engine.stages.source_code import code_hash, is_own, source_text, sources_of

__all__ = ["SCRIPT", "code_values", "own_code", "sources_behind"]

SCRIPT = "__main__"
"""The module of what is defined in the script that runs, in a notebook or at a prompt."""


def own_code(*things: Any) -> str | None:
    """Hash of the user's own code that classes, functions or objects are made of.

    A divergence or an evaluation is a few lines in a file that its author changes between two runs.

    Args:
        things: classes and functions; objects, which are told by their classes.

    Returns:
        Sixteen hexadecimal digits; ``None`` if none of this code is the user's own: then versions tell it.
    """
    kinds = [kind for thing in things for kind in _kinds(thing)]
    modules = {name for kind in kinds if is_own(name := getattr(kind, "__module__", ""))}
    return code_hash(sources_behind(kinds, modules)) if modules or any(map(_in_script, kinds)) else None


def sources_behind(
    things: Iterable[Any],
    modules: Iterable[str],
    room: Callable[[str], str] | None = None,
    own: Collection[str] | None = None,
) -> list[str]:
    """The code of modules, see :func:`sources_of`, and of classes and functions of the script that runs.

    A script is not read as a whole: most of it is what is done with the models, and may change. What its classes and
    functions use is read off their compiled code, in which a global name is told from a local one.

    Args:
        things: classes and functions; of those that are defined in modules nothing is read here.
        modules: names of modules that are loaded.
        room: see :func:`sources_of`.
        own: see :func:`sources_of`.

    Returns:
        What each does, in no particular order.
    """
    found: dict[int, str] = {}
    constants: set[str] = set()
    further: set[str] = set()
    waiting = [thing for thing in things if _in_script(thing)]
    while waiting:
        thing = waiting.pop()
        if id(thing) in found:
            continue
        functions = list(_functions(thing))
        # The class of a notebook has no source.
        compiled = [thing.__qualname__, *(code_values(function.__code__) for function in functions)]
        found[id(thing)] = source_text(thing, own or {"limbeck"}) or repr(compiled)
        for name, value in _used(thing, functions):
            place = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            waiting += [kind for kind in (value, type(value)) if _in_script(kind)]
            if isinstance(place, str):
                further |= {place} if is_own(place) else set()
            else:
                constants |= _constant(name, value)
    return [*found.values(), *constants, *sources_of({*modules, *further}, room, own)]


def code_values(code: CodeType) -> list[Any]:
    """Compiled code as plain values, without its place in a file."""
    constants = [code_values(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts]
    return [code.co_code.hex(), code.co_names, constants]


def _kinds(thing: Any) -> tuple[Any, ...]:
    """A class and those that it inherits from, the classes of an object, or a function."""
    if isinstance(thing, type):
        return thing.__mro__
    return (thing,) if hasattr(thing, "__qualname__") else type(thing).__mro__


def _in_script(thing: Any) -> bool:
    return isinstance(thing, type | FunctionType) and thing.__module__ == SCRIPT


def _functions(thing: Any) -> Iterator[FunctionType]:
    """A function, or the methods of a class, without what decorators put around them."""
    for value in [thing] if isinstance(thing, FunctionType) else vars(thing).values():
        for part in (value, *(getattr(value, name, None) for name in ("__func__", "fget", "fset", "func"))):
            bare = inspect.unwrap(part) if isinstance(part, FunctionType) else None
            if isinstance(bare, FunctionType):
                yield bare


def _used(thing: Any, functions: Iterable[FunctionType]) -> Iterator[tuple[str, Any]]:
    """What a class or function reads: the values of global names with these, bases and defaults without."""
    yield from (("", base) for base in (thing.__mro__[1:] if isinstance(thing, type) else ()))
    for function in functions:
        there = function.__globals__
        yield from ((name, there[name]) for name in _globals(function.__code__) if name in there)
        defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        yield from (("", value) for value in defaults)
        yield "", function  # a method may be defined outside its class


@functools.lru_cache(maxsize=512)
def _globals(code: CodeType) -> frozenset[str]:
    """The global names that compiled code reads, also in the functions inside it."""
    here = (str(step.argval) for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    return frozenset(here).union(*(_globals(item) for item in code.co_consts if isinstance(item, CodeType)))


def _constant(name: str, value: Any) -> set[str]:
    """A number, a text, or a list or mapping of such, by name and value; nothing of anything else."""
    try:
        return {f"{name} = {json.dumps(value, sort_keys=True)}"} if name else set()
    except (TypeError, ValueError):
        return set()
