"""What the divergences between hidden features share: which laws and shapes they take, and what they say of others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributions as D

from limbeck.core.delta import Delta
from limbeck.core.divergence.rows import describe
from limbeck.errors import DivergenceError

__all__ = [
    "OTHER_CLASSES",
    "check_batch",
    "check_labels",
    "feature_values",
    "logits_of",
    "map_values",
    "precise",
    "product",
    "shown",
    "two_logits",
]

OTHER_CLASSES = (
    "outputs over other classes cannot be compared: match hidden features instead (vid, fitnet, at), or learn a head "
    "for the teacher's classes with 'logits->penultimate:vid-lp' or 'logits->penultimate:lwf'"
)
"""The mend where a teacher was trained for another task."""


def feature_values(name: str, p: D.Distribution, q: D.Distribution) -> tuple[Tensor, Tensor]:
    """The features of two deterministic sites.

    Args:
        name: of the divergence, for errors.
        p: the teacher's ``Delta``, value of shape (batch, channels, ...).
        q: the student's, value of shape (batch, channels, ...); only the batch must agree.

    Returns:
        The two values.

    Raises:
        DivergenceError: a site is random, has no channels, or the batches differ.
    """
    check_batch(p, q)
    if not (isinstance(p, Delta) and isinstance(q, Delta)):
        raise DivergenceError(
            f"{name} compares two deterministic sites, not {shown(p)} and {shown(q)}: name hidden features, the "
            "penultimate layer or the logits of the two models"
        )
    if p.value.ndim < 2 or q.value.ndim < 2 or len(p.value) != len(q.value):
        raise DivergenceError(
            f"{name} needs values of shape (batch, channels, ...) with one batch, not {shown(p)} and {shown(q)}"
        )
    return p.value, q.value


def map_values(name: str, p: D.Distribution, q: D.Distribution) -> tuple[Tensor, Tensor]:
    """As :func:`feature_values`, of sites that have positions.

    Returns:
        Two values of shape (batch, channels, positions...), with as many dimensions.

    Raises:
        DivergenceError: as there, or a value has no positions, or another number of spatial dimensions.
    """
    theirs, own = feature_values(name, p, q)
    if theirs.ndim < 3 or theirs.ndim != own.ndim:
        raise DivergenceError(
            f"{name} compares maps, values of shape (batch, channels, height, width), not {shown(p)} and {shown(q)}: "
            "where a side has no positions, use vid or fitnet, which learn how to get from one to the other"
        )
    return precise(theirs), precise(own)


def logits_of(law: D.Distribution) -> Tensor | None:
    """The logits of a categorical site, or of a deterministic one that holds them.

    Args:
        law: ``Categorical`` or ``OneHotCategorical``; or a ``Delta``, value of shape (batch, classes).

    Returns:
        Shape (batch, classes); ``None`` if the law has none.
    """
    logits = law.value if isinstance(law, Delta) else getattr(law, "logits", None)
    if isinstance(law, D.Bernoulli) or not isinstance(logits, Tensor):
        return None
    return logits if logits.ndim == 2 and logits.is_floating_point() else None


def two_logits(name: str, p: D.Distribution, q: D.Distribution) -> tuple[Tensor, Tensor]:
    """The logits of teacher and student over the same classes.

    Args:
        name: of the divergence, for errors.
        p: the teacher's law, as for :func:`logits_of`.
        q: the student's.

    Returns:
        Two tensors of shape (batch, classes).

    Raises:
        DivergenceError: a site has no logits, or the classes differ.
    """
    check_batch(p, q)
    theirs, own = logits_of(p), logits_of(q)
    if theirs is None or own is None:
        raise DivergenceError(
            f"{name} compares logits of shape (batch, classes), not {shown(p)} and {shown(q)}: match 'logits' or 'y'"
        )
    if theirs.shape != own.shape:
        raise DivergenceError(
            f"{name}: the teacher has {theirs.shape[-1]} classes (logits of shape {tuple(theirs.shape)}), the student "
            f"{own.shape[-1]} (logits of shape {tuple(own.shape)}); {OTHER_CLASSES}"
        )
    return precise(theirs), precise(own)


def check_labels(labels: Tensor, classes: int) -> None:
    """Refuse labels that are none of a law's classes; on a GPU torch does, which alone can without waiting for it.

    Args:
        labels: any shape.
        classes: how many there are.

    Raises:
        DivergenceError: a label is below 0, or not below the number of classes.
    """
    if labels.device.type != "cpu" or torch.compiler.is_compiling() or not labels.numel():
        return
    least, most = (int(end) for end in labels.aminmax())
    if least < 0 or most >= classes:
        raise DivergenceError(
            f"the label {least if least < 0 else most} is none of the student's {classes} classes, 0 to {classes - 1}; "
            "give the student as many classes as the data have, and number them from 0"
        )


def precise(feature: Tensor) -> Tensor:
    """At least single precision: the squares of half floats overflow, and their sums round."""
    return feature.to(torch.promote_types(feature.dtype, torch.float32))


def product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product in the precision of its arguments, also under autocast: what differs in small parts only.

    Args:
        a: shape (..., n, k).
        b: shape (..., k, m).

    Returns:
        Shape (..., n, m).
    """
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


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
            raise DivergenceError(f"{describe(law)} has no batch dimension: a divergence is one number per batch row")
