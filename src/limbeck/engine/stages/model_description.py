"""A model as plain values for fingerprints: what it is and how it is written, apart from its weights."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import limbeck
from limbeck.core.graph import DGM

__all__ = ["describe_model"]


def describe_model(model: DGM) -> dict[str, Any]:
    """Class, constructor arguments and code version of a model: what its weights depend on apart from training."""
    kind = type(model)
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "config": model.config,
        "code": hashlib.sha256("".join(_sources(kind, _parts(model))).encode()).hexdigest()[:16],
        "limbeck": limbeck.__version__,
    }


def _parts(model: DGM) -> set[str]:
    """Names of modules of the model's own library, or of one that it names, in which its parts are defined."""
    kinds = {type(part).__module__ for part in model.modules()}
    named = str(model.config.get("network", "")).partition(":")[0]  # a network that is built by name
    library = type(model).__module__.partition(".")[0]
    return {kind for kind in kinds if kind != "__main__" and (kind.partition(".")[0] == library or kind == named)}


def _sources(kind: type, parts: Iterable[str] = ()) -> list[str]:
    """The code of a model: of its module and its parts', and of modules beside these in their package that they use."""
    module = sys.modules.get(kind.__module__)
    if module is None or kind.__module__ == "__main__":
        return [_source(kind)]
    found = {module.__name__: module, **{name: sys.modules[name] for name in parts}}
    waiting = list(found.values())
    while waiting:
        current = waiting.pop()
        package = current.__name__.rpartition(".")[0]
        for value in vars(current).values() if package else ():
            name = getattr(value, "__module__", None)
            if isinstance(name, str) and name not in found and name.rpartition(".")[0] == package:
                found[name] = sys.modules[name]
                waiting.append(found[name])
    return [_source(found[name]) for name in sorted(found)]


def _source(of: type | ModuleType) -> str:
    try:
        return inspect.getsource(of)
    except (OSError, TypeError):  # defined at an interactive prompt
        return ""
