"""Words that an argument may be: refused, with what there is, where they are none of them."""

from __future__ import annotations

from typing import get_args

from limbeck.errors import LimbeckError

__all__ = ["check_choice"]


def check_choice(error: type[LimbeckError], name: str, value: object, choices: object) -> None:
    """Refuse a word that is none of a ``Literal``'s.

    Args:
        error: what to raise.
        name: what to call the argument.
        value: the word.
        choices: the ``Literal``.

    Raises:
        LimbeckError: of the kind ``error``; names the argument, its value and what there is.

    Example:
        >>> from typing import Literal
        >>> from limbeck.errors import ModelError
        >>> check_choice(ModelError, "DDIM: first", "last", Literal["network", "residual"])
        Traceback (most recent call last):
            ...
        limbeck.errors.ModelError: DDIM: first must be network or residual, not 'last'
    """
    known = get_args(choices)
    if value not in known:
        told = " or ".join(known) if len(known) == 2 else f"one of {', '.join(known)}"
        raise error(f"{name} must be {told}, not {value!r}")
