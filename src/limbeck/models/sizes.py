"""Checking the sizes that models are built with."""

from __future__ import annotations

from limbeck.errors import ModelError

__all__ = ["check_at_least", "check_positive", "check_warm_up"]


def check_positive(model: object, **sizes: float) -> None:
    """Refuse a model whose widths, counts or scales are not positive.

    Args:
        model: the model that is being built.
        sizes: constructor arguments by name.

    Raises:
        ModelError: names the class, the argument and its value.

    Example:
        >>> check_positive(object(), width=0)
        Traceback (most recent call last):
            ...
        limbeck.errors.ModelError: object: width must be positive, not 0
    """
    for name, value in sizes.items():
        if not value > 0:
            raise ModelError(f"{type(model).__name__}: {name} must be positive, not {value}")


def check_warm_up(model: object, warm_up: float) -> None:
    """Refuse a model whose loss warms up over no part of the training.

    Args:
        model: the model that is being built.
        warm_up: fraction of the training over which a weight of its loss rises.

    Raises:
        ModelError: names the class and the value.

    Example:
        >>> check_warm_up(object(), -1.0)
        Traceback (most recent call last):
            ...
        limbeck.errors.ModelError: object: warm_up is a fraction of the training in [0, 1], not -1.0
    """
    if not 0 <= warm_up <= 1:
        raise ModelError(f"{type(model).__name__}: warm_up is a fraction of the training in [0, 1], not {warm_up}")


def check_at_least(model: object, least: int, **sizes: int) -> None:
    """Refuse a model whose counts are below what makes sense.

    Args:
        model: the model that is being built.
        least: the smallest value that is allowed.
        sizes: constructor arguments by name.

    Raises:
        ModelError: names the class, the argument and its value.

    Example:
        >>> check_at_least(object(), 2, columns=1)
        Traceback (most recent call last):
            ...
        limbeck.errors.ModelError: object: columns must be at least 2, not 1
    """
    for name, value in sizes.items():
        if value < least:
            raise ModelError(f"{type(model).__name__}: {name} must be at least {least}, not {value}")
