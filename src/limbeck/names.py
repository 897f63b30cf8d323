"""Public names: loaded when they are first used, since importing torch or Lightning takes seconds, and found again."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy_names", "public_name"]


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


def public_name(thing: Any) -> str:
    """The shortest path under which a class or function is found, which outlives the file that it is written in today.

    Args:
        thing: a class, a function, or an object, which is told by its class.

    Returns:
        A package above it that tells the name, and the name; its module and name where no package does.

    Example:
        >>> from json.decoder import JSONDecoder
        >>> public_name(JSONDecoder), public_name(JSONDecoder.decode)
        ('json.JSONDecoder', 'json.decoder.JSONDecoder.decode')
    """
    name = getattr(thing, "__qualname__", None)
    if name is None:
        return public_name(type(thing))
    module = getattr(thing, "__module__", None) or ""
    packages = module.split(".")
    for count in range(1, len(packages)):
        path = ".".join(packages[:count])
        if getattr(sys.modules.get(path), name, None) is thing:
            return f"{path}.{name}"
    return f"{module}.{name}"
