"""Hidden features as divergences take them: the values of deterministic sites, with channels or with positions."""

from __future__ import annotations

from torch import Tensor
from torch import distributions as D

from limbeck.core.delta import Delta
from limbeck.core.divergence.rows import check_batch, shown
from limbeck.core.precision import precise
from limbeck.errors import DivergenceError

__all__ = ["feature_values", "map_values"]


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
