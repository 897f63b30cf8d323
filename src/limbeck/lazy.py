"""Names of a package that are loaded when they are first used: importing torch or Lightning takes seconds."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module-level ``__getattr__``.

    Args:
        package: name of the package, ``__name__``.
        homes: public name to the module that defines it, or to the module itself where it bears the name.

    Example:
        >>> get = lazy_names("math", {"join": "os.path"})
        >>> get("join")("a", "b")
        'a/b'
    """

    def load(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(home)
        return getattr(module, name, module)

    return load
