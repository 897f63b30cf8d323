"""The arguments that a model was constructed with, which its ``config.json`` is made of."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["recorded_arguments"]


def recorded_arguments(function: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Names and values of the arguments of a call, defaults included.

    Lists and dictionaries are copies at every depth: what the function, or its caller afterwards, changes in its own
    would otherwise be saved as what the model was built from.

    Args:
        function: a method, whose first argument is the object.
        args: as it is called, the object first.
        kwargs: likewise.

    Returns:
        Those of ``**`` under their own names; those of ``*`` as a tuple, if there are any.

    Example:
        >>> class Network:
        ...     def __init__(self, widths, depth=2):
        ...         widths.append(10)
        >>> widths = [64]
        >>> found = recorded_arguments(Network.__init__, None, widths)
        >>> network = Network(widths)
        >>> found
        {'widths': [64], 'depth': 2}
    """
    signature = inspect.signature(function)
    bound = signature.bind_partial(*args, **kwargs)
    bound.apply_defaults()
    found = dict(list(bound.arguments.items())[1:])
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            found.update(found.pop(name, {}))
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and not found.get(name):
            found.pop(name, None)
    return {name: _copied(value) for name, value in found.items()}


def _copied(value: Any) -> Any:
    """A copy of what JSON can hold; anything else, such as a module, as it is."""
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(item) for item in value)
    return value
