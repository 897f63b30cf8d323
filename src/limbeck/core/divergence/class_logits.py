"""Logits as divergences take them: those of one site or of two over the same classes, and the labels beside them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributions as D

from limbeck.core.delta import Delta
from limbeck.core.divergence.rows import check_batch, shown
from limbeck.core.precision import precise
from limbeck.errors import DivergenceError

__all__ = ["OTHER_CLASSES", "check_labels", "logits_of", "two_logits"]

OTHER_CLASSES = (
    "outputs over other classes cannot be compared: match hidden features instead (vid, fitnet, at), or learn a head "
    "for the teacher's classes with 'logits->penultimate:vid-lp' or 'logits->penultimate:lwf'"
)
"""What to do where the teacher was trained for another task: the end of the messages that refuse its outputs."""


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
