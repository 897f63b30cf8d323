"""The code of a script or a notebook: of all that is defined there, what a model or an objective is made of."""

from __future__ import annotations

import dataclasses
import dis
import functools
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from enum import Enum
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

from torch import Tensor

from limbeck.engine.stages.fingerprints import describe_tensor
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
        # The source of a function is that inside all that decorators put around it.
        around = repr([code_values(layer.__code__) for layer in functions if hasattr(layer, "__wrapped__")])
        found[id(thing)] = (source_text(thing, own or {"limbeck"}) or _compiled(thing, functions)) + around
        for name, value in _used(thing, functions):
            place = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            waiting += [kind for kind in (value, type(value)) if _in_script(kind)]
            further |= {place} if isinstance(place, str) and is_own(place) else set()
            constants |= _constant(name, value)
    return [*found.values(), *constants, *sources_of({*modules, *further}, room, own)]


def code_values(code: CodeType) -> list[Any]:
    """Compiled code as plain values, without its place in a file."""
    return [code.co_code.hex(), code.co_names, [_code_constant(item) for item in code.co_consts]]


def _code_constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return code_values(value)
    # A set of texts is in another order in each process.
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)


def _compiled(thing: Any, functions: Iterable[FunctionType]) -> str:
    """What tells a class or function without a source, as that of a notebook: its code, and attributes of a class."""
    attributes = vars(thing).items() if isinstance(thing, type) else ()
    told = sorted(text for name, value in attributes if not name.startswith("__") for text in _constant(name, value))
    return repr([thing.__qualname__, *told, *(code_values(function.__code__) for function in functions)])


def _kinds(thing: Any) -> tuple[Any, ...]:
    """A class and those that it inherits from, the classes of an object, or a function."""
    if isinstance(thing, type):
        return thing.__mro__
    return (thing,) if hasattr(thing, "__qualname__") else type(thing).__mro__


def _in_script(thing: Any) -> bool:
    return isinstance(thing, type | FunctionType) and thing.__module__ == SCRIPT


def _functions(thing: Any) -> Iterator[FunctionType]:
    """A function, or the methods of a class, without what decorators from elsewhere put around them."""
    for value in [thing] if isinstance(thing, FunctionType) else vars(thing).values():
        for part in (value, *(getattr(value, name, None) for name in ("__func__", "fget", "fset", "func"))):
            for layer in _layers(part):
                innermost = not hasattr(layer, "__wrapped__")
                if isinstance(layer, FunctionType) and (innermost or layer.__globals__.get("__name__") == SCRIPT):
                    yield layer


def _layers(value: Any) -> Iterator[Any]:
    """A value, and what is inside it if a decorator was put around a function, or some of its arguments are given."""
    yield value
    inside = [getattr(value, "__dict__", {}).get("__wrapped__")]
    if isinstance(value, functools.partial):
        inside = [value.func, *value.args, *value.keywords.values()]
    for part in inside:
        if part is not None:
            yield from _layers(part)


def _used(thing: Any, functions: Iterable[FunctionType]) -> Iterator[tuple[str, Any]]:
    """What a class or function reads: values of global and enclosed names, and defaults, by name; bases without."""
    yield from (("", base) for base in (thing.__mro__[1:] if isinstance(thing, type) else ()))
    for function in functions:
        there, code = function.__globals__, function.__code__
        read = [(name, there[name]) for name in _globals(code) if name in there]
        read += [(name, value) for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
                 for value in _contents(cell)]  # fmt: skip
        read += [(f"{function.__qualname__} {place}", value) for place, value in enumerate(function.__defaults__ or ())]
        read += (function.__kwdefaults__ or {}).items()
        yield from ((name, layer) for name, value in read for layer in _layers(value))
        yield "", function  # a method may be defined outside its class


def _contents(cell: CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # not yet filled
        return []


@functools.lru_cache(maxsize=512)
def _globals(code: CodeType) -> frozenset[str]:
    """The global names that compiled code reads, also in the functions inside it."""
    here = (str(step.argval) for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    return frozenset(here).union(*(_globals(item) for item in code.co_consts if isinstance(item, CodeType)))


def _constant(name: str, value: Any) -> set[str]:
    """A number, a text, a tensor, or a collection or dataclass of such, by name and value; nothing of anything else."""
    try:
        return {f"{name} = {json.dumps(value, sort_keys=True, default=_as_json)}"} if name else set()
    except (TypeError, ValueError):
        return set()


def _as_json(value: Any) -> Any:
    """What ``json`` writes in place of a value that it does not know."""
    if isinstance(value, Tensor):
        return describe_tensor(value)
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, Enum):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError
