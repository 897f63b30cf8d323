"""Laws of a teacher's sites as plain arrays, and the way back, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Normal, OneHotCategorical

from limbeck.core.delta import Delta
from limbeck.core.trace import Trace
from limbeck.data.caching.store import Column
from limbeck.errors import ModelError

__all__ = ["dismantle", "laid_out", "rebuild", "stored_numbers", "stored_order"]

_KINDS: dict[str, type[Distribution]] = {
    kind.__name__: kind for kind in (Bernoulli, Categorical, Delta, Normal, OneHotCategorical)
}
_PARAMETERS = {
    "Bernoulli": ("logits", "probs"),
    "Categorical": ("logits", "probs"),
    "Delta": ("value",),
    "Normal": ("loc", "scale"),
    "OneHotCategorical": ("logits", "probs"),
}


def dismantle(law: Distribution, site: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take a law apart into the numbers that it is made of.

    Args:
        law: of one site, batch first.
        site: its name, for messages.

    Returns:
        Parameter name to tensor, shape (batch, ...); and, as JSON values, what else :func:`rebuild` needs to know.

    Raises:
        ModelError: the law is of a kind that cannot be stored.
    """
    kind = type(law).__name__
    if _KINDS.get(kind) is not type(law):
        raise ModelError(f"teacher_cache: {site!r} has the law {kind}; those that can be kept are {', '.join(_KINDS)}")
    inner: Any = law._categorical if isinstance(law, OneHotCategorical) else law
    # If a law has two parameterisations, the one that it was made with: the other one is rounded.
    names = [name for name in _PARAMETERS[kind] if name in vars(inner)]
    if {"logits", "probs"} <= set(names):
        names = ["logits" if inner._param is inner.logits else "probs"]
    details = {"kind": kind, "event_dim": law.event_dim} if isinstance(law, Delta) else {"kind": kind}
    return {name: vars(inner)[name] for name in names}, details


def rebuild(parameters: Mapping[str, Tensor], details: Mapping[str, Any]) -> Distribution:
    """The law that :func:`dismantle` took apart, for the rows that the parameters now have.

    Args:
        parameters: name to tensor, shape (batch, ...).
        details: the other result of :func:`dismantle`.
    """
    kind: Any = _KINDS[details["kind"]]
    if kind is Delta:
        return Delta(parameters["value"], details["event_dim"])
    law: Any = kind(**parameters, validate_args=False)
    inner = law._categorical if kind is OneHotCategorical else law
    if kind is not Normal:
        # The constructor normalises once more what is normalised already, which would round it.
        ((name, value),) = parameters.items()
        setattr(inner, name, value)
        inner._param = value
    built: Distribution = law
    return built


def stored_order(value: Tensor) -> list[int] | None:
    """The order of dimensions in which a tensor lies in memory, if it is an image with its channels last.

    Sums over another layout add up in another order, so a stored feature must come back in the layout that it had.
    """
    if value.ndim == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last):
        return [0, 2, 3, 1]
    return None


def laid_out(stored: Tensor, order: list[int] | None) -> Tensor:
    """The inverse of ``value.permute(order)``, without copying."""
    return stored if order is None else stored.permute([order.index(dimension) for dimension in range(len(order))])


def stored_numbers(trace: Trace, column: Column) -> Tensor:
    """The numbers of one run that belong in an array, as they are stored.

    Args:
        trace: of the teacher.
        column: the array; it names the site and the parameter of its law.

    Returns:
        Shape (batch, ...).

    Raises:
        ModelError: a number is not finite, or would not be as it is stored.
    """
    site, law = column.details["site"], trace[column.details["site"]].kept_distribution()
    value = dismantle(law, site)[0][column.details["of"]]
    value = value if column.details["order"] is None else value.permute(column.details["order"])
    rows = value.to(column.torch_dtype)
    if bool(rows.isnan().any()) or (column.dtype == "float16" and not torch.equal(rows.isinf(), value.isinf())):
        large = ", or too large for float16" if column.dtype == "float16" else ""
        raise ModelError(f"teacher_cache: the teacher's {site!r} has numbers that are not finite{large}")
    return rows
