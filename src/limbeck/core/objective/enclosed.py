"""Modules that hang on what is no module itself, so that an objective can train, move and save them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from types import MethodType
from typing import Any

from torch import nn

from limbeck.core.coupling.coupling import Coupling, coupling_parts

__all__ = ["enclosed_modules", "module_of"]


def module_of(function: Any) -> nn.Module | None:
    """The module that a function is, or that it calls: behind ``functools.partial``, or as the owner of a bound method.

    >>> from functools import partial
    >>> layer = nn.Identity()
    >>> [module_of(each) is layer for each in (layer, partial(layer), partial(layer.forward), print)]
    [True, True, True, False]
    """
    while not isinstance(function, nn.Module):
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__self__
        else:
            return None
    return function


def enclosed_modules(divergences: Iterable[Any], coupling: Coupling) -> list[nn.Module]:
    """The modules behind divergences and inside a coupling that are not the divergence or the coupling itself.

    Args:
        divergences: those of an objective's matches.
        coupling: its coupling; the fields of those that are dataclasses are looked through.

    Returns:
        Each module once, in the order in which it is found.
    """
    given = list(divergences)
    found = {id(module): module for module in map(module_of, [*given, *coupling_parts(coupling)]) if module is not None}
    direct = {id(each) for each in (*given, coupling)}
    return [module for key, module in found.items() if key not in direct]
