"""A model as plain values for fingerprints: its class, constructor arguments and code, without its weights."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Collection, Iterable
from types import ModuleType
from typing import Any

import limbeck
from limbeck.core.graph import DGM
from limbeck.engine.stages.fingerprints import fingerprint, weights_fingerprint
from limbeck.engine.stages.objective_description import describe_value
from limbeck.errors import ModelError
from limbeck.names import public_name

__all__ = ["describe_model", "model_key", "what_code_does"]


def describe_model(model: DGM) -> dict[str, Any]:
    """Class, constructor arguments and code version of a model: what its weights depend on apart from training."""
    kind = type(model)
    return {
        "class": public_name(kind),
        "config": describe_value(model.config),
        "code": hashlib.sha256("".join(sorted(_sources(kind, _parts(model)))).encode()).hexdigest()[:16],
        "limbeck": limbeck.__version__,
    }


def model_key(model: DGM) -> str:
    """Fingerprint of a finished model: class, constructor arguments, code and weights.

    Raises:
        ModelError: it has constructor arguments that have no fingerprint.
    """
    try:
        return fingerprint(model=describe_model(model), weights=weights_fingerprint(model))
    except TypeError as error:
        raise ModelError(
            f"{type(model).__name__} has no fingerprint: of its constructor arguments, {error}; pass numbers, texts, "
            "lists, tensors or modules"
        ) from None


def _parts(model: DGM) -> set[str]:
    """Modules in which the model's parts are defined: those of its own library, or one that its configuration names."""
    kinds = {type(part).__module__ for part in model.modules()}
    named = str(model.config.get("network", "")).partition(":")[0]  # the module of a network that is built by name
    library = type(model).__module__.partition(".")[0]
    return {kind for kind in kinds if kind != "__main__" and (kind.partition(".")[0] == library or kind == named)}


def _sources(kind: type, parts: Iterable[str] = ()) -> list[str]:
    """The code of a model: of its module, of its parts' modules, and of the modules in their packages that they use."""
    module = sys.modules.get(kind.__module__)
    own = {kind.__module__.partition(".")[0], "limbeck"}
    if module is None or kind.__module__ == "__main__":
        return [_source(kind, own)]
    found = {module.__name__: module, **{name: sys.modules[name] for name in parts}}
    waiting = list(found.values())
    while waiting:
        current = waiting.pop()
        room = _room(current.__name__)
        for value in vars(current).values() if room else ():
            name = getattr(value, "__module__", None)
            if isinstance(name, str) and name not in found and _room(name) == room:
                found[name] = sys.modules[name]
                waiting.append(found[name])
    return [_source(module, own) for module in found.values()]


def _room(module: str) -> str:
    """The package of a module, at most one level below its library: a model's helpers may be in its subpackages."""
    return ".".join(module.split(".")[:-1][:2])


def _source(of: type | ModuleType, own: Collection[str]) -> str:
    try:
        return what_code_does(inspect.getsource(of), own)
    except (OSError, TypeError):  # defined at an interactive prompt
        return ""


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
