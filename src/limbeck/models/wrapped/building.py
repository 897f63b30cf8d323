"""Networks by the name of what builds them: our own, or a user's that is imported already."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable
from typing import Any

from torch import nn

from limbeck.errors import ModelError

__all__ = ["build", "builder"]

_OWN = "limbeck.models.networks"


def build(network: str, settings: dict[str, Any]) -> nn.Module:
    """Build a network.

    Args:
        network: see :func:`builder`.
        settings: the arguments.

    Raises:
        ModelError: there is no such builder, it refuses the arguments, or what it builds is no module.
    """
    make = builder(network)
    try:
        made = make(**settings)
    except TypeError as error:
        raise ModelError(f"{network} does not take these settings: {error}") from None
    if not isinstance(made, nn.Module):
        raise ModelError(f"{network} built a {type(made).__name__}, not a torch.nn.Module")
    return made


def builder(network: str) -> Callable[..., Any]:
    """What builds a network.

    A saved model names it, and must not be able to call whatever it likes. So only modules that are imported already
    are looked at, and in them only subclasses of ``nn.Module`` and functions that say they return one.

    Args:
        network: the name of a class in :mod:`limbeck.models.networks`, or ``"package.module:name"``.

    Raises:
        ModelError: there is nothing of that name that may be called.
    """
    if ":" not in network:
        import limbeck.models.networks as own

        if network in own.__all__:
            found: Callable[..., Any] = getattr(own, network)
            return found
        raise ModelError(
            f"there is no network {network!r}; {_OWN} has {', '.join(own.__all__)}; your own is named "
            "'package.module:name'"
        )
    module_name, _, name = network.partition(":")
    module = sys.modules.get(module_name)
    if module is None:
        raise ModelError(
            f"{network} is in a module that is not imported; import it first (on the command line: "
            f"--import={module_name})"
        )
    made = getattr(module, name, None)
    if not (_is_network(made) or _returns_network(made)):
        raise ModelError(
            f"{network} is no subclass of torch.nn.Module and no function annotated to return one (-> nn.Module)"
        )
    return typing.cast(Callable[..., Any], made)


def _is_network(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


def _returns_network(value: Any) -> bool:
    if not inspect.isfunction(value):
        return False
    try:
        return _is_network(typing.get_type_hints(value).get("return"))
    except NameError:
        return False
