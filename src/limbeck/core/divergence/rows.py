"""The first and the last step of every divergence: check the two shapes, and reduce to one number per row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributions as D

from limbeck.core.precision import precise
from limbeck.core.reparam.base_law import base_law
from limbeck.errors import DivergenceError

__all__ = ["check_batch", "comparable", "describe", "reduce", "shown"]


def comparable(p: D.Distribution, q: D.Distribution) -> tuple[Any, Any, torch.Size]:
    """Return both without their ``Independent`` wrappers, and the shape of one value (batch first).

    Which dimensions a user has declared as the event makes no difference to a sum over all of them, so a wrapped and
    an unwrapped distribution can be compared.
    """
    shape = p.batch_shape + p.event_shape
    other = q.batch_shape + q.event_shape
    if shape != other:
        raise DivergenceError(
            f"the teacher's {describe(p)} has values of shape {tuple(shape)}, "
            f"the student's {describe(q)} of shape {tuple(other)}: they must be equal (batch dimension included)"
        )
    if not shape:
        raise _no_batch(p)
    return base_law(p), base_law(q), shape


def reduce(elements: Tensor, shape: torch.Size, normalize: bool) -> Tensor:
    """Sum ``elements`` over all dimensions but the first; shape ``(batch,)``, in single precision or better.

    Args:
        elements: of shape ``(batch, ...)``, one term per independent part of the site.
        shape: of the site's value, which counts the elements of multivariate parts too.
        normalize: divide by the number of elements of one row.
    """
    if elements.dim() == 0 or elements.shape[0] != shape[0]:
        raise DivergenceError(f"the batch dimension of a site with values of shape {tuple(shape)} is part of its event")
    elements = precise(elements)  # under autocast a law is in half precision, whose sums keep two or three digits
    if normalize and elements.dim() > 1 and elements.shape == shape:
        return elements.flatten(1).mean(1)  # one operation instead of two, at every site of every step
    total = elements.flatten(1).sum(1) if elements.dim() > 1 else elements
    if normalize:
        total = total / max(shape[1:].numel(), 1)
    return total


def describe(distribution: D.Distribution) -> str:
    """Name a distribution in an error: its class, with what it wraps."""
    name = type(distribution).__name__
    if isinstance(distribution, (D.Independent, D.TransformedDistribution)) and name in (
        "Independent",
        "TransformedDistribution",
    ):
        return f"{name}({describe(distribution.base_dist)})"
    return name


def shown(law: D.Distribution) -> str:
    """A law with the shape of its values, for errors."""
    return f"{describe(law)} of shape {tuple(law.batch_shape + law.event_shape)}"


def check_batch(*laws: D.Distribution) -> None:
    """Refuse laws without a batch.

    Raises:
        DivergenceError: a law has no dimension at all.
    """
    for law in laws:
        if not law.batch_shape + law.event_shape:
            raise _no_batch(law)


def _no_batch(law: D.Distribution) -> DivergenceError:
    return DivergenceError(f"{describe(law)} has no batch dimension: a divergence is one number per batch row")
