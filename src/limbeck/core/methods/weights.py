"""Weights of the named methods: a negative one would maximise what the method is to minimise."""

from __future__ import annotations

from limbeck.core.objective import Weight
from limbeck.errors import MatchError

__all__ = ["check_weights"]


def check_weights(**weights: Weight) -> None:
    """Check that weights are not negative; those that are functions of the progress are left alone.

    Args:
        weights: name of the method's argument to its value.

    Raises:
        MatchError: names the first that is negative.
    """
    for name, weight in weights.items():
        if isinstance(weight, int | float) and weight < 0:
            raise MatchError(f"{name} must be 0 or more, not {weight}: below 0, the student would learn to differ")
