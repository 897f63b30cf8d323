"""Code as a part of fingerprints: which modules a class or function is made of, and what their code does."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import FunctionType, ModuleType

__all__ = ["code_hash", "is_own", "parent_packages", "source_text", "sources_of", "what_code_does"]

_INSTALLED = {"site-packages", "dist-packages"}
_LIBRARIES = {"limbeck", "torch"}  # also where they are installed from a working copy


def code_hash(sources: Iterable[str]) -> str:
    """Sixteen hexadecimal digits that tell sources apart, in any order."""
    return hashlib.sha256("".join(sorted(sources)).encode()).hexdigest()[:16]


def is_own(name: str | None) -> bool:
    """Whether a module is the user's own: no part of this library, of torch, of Python, or of what is installed."""
    file = getattr(sys.modules.get(name or ""), "__file__", None)
    if name is None or file is None or name == "__main__" or name.partition(".")[0] in _LIBRARIES:
        return False
    path = Path(file).resolve()
    return not _INSTALLED & set(path.parts) and not path.is_relative_to(Path(sysconfig.get_path("stdlib")).resolve())


def sources_of(
    modules: Iterable[str], room: Callable[[str], str] | None = None, own: Collection[str] | None = None
) -> list[str]:
    """The code of modules, and of those modules that they use and that belong to them.

    A module in a package has its helpers in the same room. A script, which is in no package, has them in what it
    imports from other files of the user's own.

    Args:
        modules: names of modules that are loaded.
        room: the room of a module, empty if it has none; by default see :func:`parent_packages`.
        own: libraries that may move their names between modules; by default those of the modules, and this one.

    Returns:
        What each module does, in no particular order.
    """
    room = room or parent_packages
    found = {name: sys.modules[name] for name in modules}
    own = {name.partition(".")[0] for name in found} | {"limbeck"} if own is None else own
    waiting = list(found.values())
    while waiting:
        current = waiting.pop()
        for name in _used(current):
            if name in found or name not in sys.modules:
                continue
            same = room(name) == room(current.__name__) != ""
            beside = "." not in current.__name__ or "." not in name
            if same or (beside and is_own(current.__name__) and is_own(name)):
                found[name] = sys.modules[name]
                waiting.append(found[name])
    return [source_text(module, own) for module in found.values()]


def _used(module: ModuleType) -> set[str]:
    """Names of modules that a module takes its names from; for the user's own, of all that it imports when loaded."""
    names = {getattr(value, "__module__", None) for value in vars(module).values()}
    found = {name for name in names if isinstance(name, str)}
    if not is_own(module.__name__):
        return found
    for node in ast.walk(_tree(_text(module))):
        # What is imported later, or for types alone, may or may not be loaded by now; a fingerprint must not change.
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if _bound(module, alias.asname or alias.name.split(".")[0])}
        elif isinstance(node, ast.ImportFrom):
            above = (module.__package__ or "").split(".")
            origin = ".".join(above[: len(above) - node.level + 1] if node.level else [])
            origin = ".".join(part for part in (origin, node.module) if part)
            bound = [alias.name for alias in node.names if _bound(module, alias.asname or alias.name)]
            found |= {name for alias in bound for name in (origin, f"{origin}.{alias}")}
    return found


def _bound(module: ModuleType, name: str) -> bool:
    return name == "*" or name in vars(module)


def parent_packages(module: str) -> str:
    """The package of a module, at most one level below its library: a model's helpers may be in its subpackages."""
    return ".".join(module.split(".")[:-1][:2])


def source_text(of: type | FunctionType | ModuleType, own: Collection[str]) -> str:
    """What the code of a class, a function or a module does; empty where it has no source."""
    return _what_code_does(_text(of), frozenset(own))


@functools.lru_cache(maxsize=512)  # all models of a run are measured by the same code
def _what_code_does(source: str, own: frozenset[str]) -> str:
    return what_code_does(source, own)


def _text(of: type | FunctionType | ModuleType) -> str:
    try:
        return inspect.getsource(of)
    except (OSError, TypeError):  # defined at an interactive prompt
        return ""


def _tree(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])


def what_code_does(source: str, own: Collection[str] = ()) -> str:
    """Code without what has no effect: layout, comments, docstrings, order of imports, modules of a library's names.

    A teacher that took hours must not be trained again because a file of its model was reformatted or moved.

    Args:
        source: of a module or a class.
        own: libraries that may move their names between modules; elsewhere, the same name in another module can be
            another thing.

    Returns:
        A text that is equal for two sources that differ in these respects only.

    Example:
        >>> what_code_does("from a.b import c  # why", {"a"}) == what_code_does("from a.d import c", {"a"})
        True
        >>> what_code_does("from a.b import c") == what_code_does("from a.d import c")
        False
    """
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:  # the lines of a class could not be separated from those around it
        return source
    imported: set[str] = set()
    for node in ast.walk(tree):
        for body in (value for value in vars(node).values() if isinstance(value, list)):
            imports = [part for part in body if isinstance(part, ast.Import | ast.ImportFrom)]
            imported.update(f"{_origin(part, own)} {ast.unparse(name)}" for part in imports for name in part.names)
            body[:] = [part for part in body if part not in imports]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                del node.body[0]
    return "\n".join([*sorted(imported), ast.unparse(tree)])


def _origin(imported: ast.Import | ast.ImportFrom, own: Collection[str]) -> str:
    """The module that names come from; empty for an own library, which may move them."""
    module = imported.module if isinstance(imported, ast.ImportFrom) and not imported.level else None
    return "" if module is None or module.partition(".")[0] in own else module
