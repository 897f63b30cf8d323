"""Wasserstein distances: squared, between random sites; of any order, between deterministic ones."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch import distributions as D

from limbeck.core.delta import Delta
from limbeck.core.divergence.rows import comparable, describe, reduce
from limbeck.core.expectation import WITHOUT_MEAN
from limbeck.core.precision import precise
from limbeck.errors import DivergenceError

__all__ = ["lp", "mean_lp", "wasserstein2"]

# Families in which every member is an increasing affine image of one standard variable.
_LOCATION_SCALE = (D.Normal, D.Laplace, D.Uniform, D.Gumbel, D.Exponential, D.HalfNormal)
_GAUSSIAN_VECTOR = (D.MultivariateNormal, D.LowRankMultivariateNormal)
# A category's number is a label: the distance between labels means nothing, and torch gives NaN for the mean.
_WITHOUT_MEAN = (D.Categorical, *WITHOUT_MEAN)


def wasserstein2(p: D.Distribution, q: D.Distribution, *, normalize: bool = False) -> Tensor:
    r"""Squared 2-Wasserstein distance: :math:`\inf E|a - b|^2` over all couplings of ``a ~ p`` and ``b ~ q``.

    [U] App. F uses it between continuous latents. Parts of a site that are independent on both sides add up.

    * One location-scale family on both sides (normal, Laplace, uniform, Gumbel, exponential, half-normal): on the line
      the comonotone coupling is optimal. With :math:`a = m_1 + s_1 e`, :math:`b = m_2 + s_2 e`, where ``m`` are the
      means, ``s`` the standard deviations and ``e`` the standardised variable of the family, it costs
      :math:`E((m_1 - m_2) + (s_1 - s_2) e)^2 = (m_1 - m_2)^2 + (s_1 - s_2)^2`.
    * A point mass at ``a``: there is one coupling only, and it costs :math:`(a - m)^2 + s^2`, whatever the other law.
    * Multivariate normals with covariances ``S = L L^T``, full, low-rank or (one of them) diagonal:
      :math:`|m_1 - m_2|^2 + tr S_1 + tr S_2 - 2 \|L_1^T L_2\|_*`, the Bures metric, ``|| . ||_*`` being
      the sum of singular values.

    Args:
        p: the teacher's distribution, values of shape ``(batch, ...)``.
        q: the student's, of the same shape.
        normalize: divide by the number of elements of one value.

    Returns:
        Shape ``(batch,)``, differentiable also where both sides are equal.

    Raises:
        DivergenceError: if there is no closed form, or the shapes differ.

    Example:
        >>> wasserstein2(D.Normal(torch.zeros(2, 3), 1.0), D.Normal(torch.ones(2, 3), 3.0))
        tensor([15., 15.])
    """
    left, right, shape = comparable(p, q)
    if type(left) is D.Normal and type(right) is D.Normal:
        mean, scale = precise(left.loc) - precise(right.loc), precise(left.scale) - precise(right.scale)
        return reduce(torch.addcmul(mean * mean, scale, scale), shape, normalize)
    if isinstance(left, Delta) or isinstance(right, Delta):
        try:
            (mean1, variance1), (mean2, variance2) = ((_mean(side), precise(side.variance)) for side in (left, right))
        except NotImplementedError as error:
            raise _no_closed_form(p, q) from error
        # One of the variances is zero.
        return reduce((mean1 - mean2).square() + variance1 + variance2, shape, normalize)
    if isinstance(left, _GAUSSIAN_VECTOR) or isinstance(right, _GAUSSIAN_VECTOR):
        factor1, factor2 = _scale_tril(left), _scale_tril(right)
        if factor1 is not None and factor2 is not None:
            return reduce(_bures(_mean(left), factor1, _mean(right), factor2), shape, normalize)
    for family in _LOCATION_SCALE:
        if isinstance(left, family) and isinstance(right, family):
            mean, scale = _mean(left) - _mean(right), precise(left.stddev) - precise(right.stddev)
            return reduce(torch.addcmul(mean * mean, scale, scale), shape, normalize)
    raise _no_closed_form(p, q)


def lp(
    p: D.Distribution, q: D.Distribution, *, order: float = 1.0, normalize: bool = False, root: bool = True
) -> Tensor:
    """Wasserstein distance between deterministic sites, which is the norm of their difference ([U] Eq. 8, 9).

    Args:
        p: a ``Delta``, value ``a`` of shape ``(batch, ...)``.
        q: a ``Delta``, value ``b`` of the same shape.
        order: at least 1.
        normalize: replace the sum over elements by their mean (inside the root).
        root: ``False`` leaves the ``order``-th root away: for ``order=2`` the squared error, rather than its root.

    Returns:
        ``(sum |a - b|^order)^(1 / order)``, shape ``(batch,)``. Where the two sides are equal the gradient is zero.

    Raises:
        DivergenceError: if a site is random, the shapes differ, or ``order`` is below 1.

    Example:
        >>> a, b = Delta(torch.tensor([[0.0, 0.0]])), Delta(torch.tensor([[3.0, 4.0]]))
        >>> lp(a, b), lp(a, b, order=2), lp(a, b, order=2, root=False)
        (tensor([7.]), tensor([5.]), tensor([25.]))
    """
    left, right, shape = comparable(p, q)
    if not (isinstance(left, Delta) and isinstance(right, Delta)):
        raise DivergenceError(
            f"lp compares two deterministic sites, not {describe(p)} and {describe(q)}: use wasserstein2 or kl"
        )
    return _norm(precise(left.value) - precise(right.value), shape, order, normalize, root)


def mean_lp(
    p: D.Distribution, q: D.Distribution, *, order: float = 1.0, normalize: bool = False, root: bool = True
) -> Tensor:
    """Wasserstein distance between laws that are shifts of each other: the norm of the difference of their means.

    Moving every point by the shift is a coupling, and by Jensen's inequality no coupling is cheaper; for other pairs of
    laws it is a lower bound. On targets with a fixed scale it takes the place of the KL, whose squared error lets a
    small student blur: order 1 asks for the median of what the student cannot resolve rather than its mean.

    Args:
        p: teacher's law, mean of shape ``(batch, ...)``.
        q: student's law, mean of the same shape.
        order: as for :func:`lp`.
        normalize: as for :func:`lp`.
        root: as for :func:`lp`.

    Returns:
        Shape ``(batch,)``.

    Raises:
        DivergenceError: if a law has no mean, the shapes differ, or ``order`` is below 1.

    Example:
        >>> mean_lp(D.Normal(torch.zeros(1, 2), 1.0), D.Normal(torch.tensor([[3.0, -4.0]]), 1.0))
        tensor([7.])
    """
    left, right, shape = comparable(p, q)
    try:
        difference = _mean(left) - _mean(right)
    except NotImplementedError as error:
        raise DivergenceError(
            f"mean_lp compares the means of two laws, but one of {describe(p)} and {describe(q)} has none: use "
            "limbeck.divergence.kl (or kl_monte_carlo)"
        ) from error
    return _norm(difference, shape, order, normalize, root)


def _norm(difference: Tensor, shape: torch.Size, order: float, normalize: bool, root: bool) -> Tensor:
    if not 1.0 <= order < math.inf:
        raise DivergenceError(f"the order of a Wasserstein distance is finite and at least 1, not {order}")
    if order == 1.0:
        return reduce(difference.abs(), shape, normalize)
    power = difference.square() if order == 2.0 else difference.abs().pow(order)
    total = reduce(power, shape, normalize)
    if not root:
        return total
    # The root's slope is infinite at 0, and inf * 0 would make the gradient NaN where teacher and student agree.
    zero = total == 0
    return total.masked_fill(zero, 1.0).pow(1.0 / order).masked_fill(zero, 0.0)


def _mean(side: Any) -> Tensor:
    """Mean of a side, elementwise.

    Raises:
        NotImplementedError: torch's way to say that there is none.
    """
    if isinstance(side, _WITHOUT_MEAN):
        raise NotImplementedError
    return precise(side.mean)


def _scale_tril(side: Any) -> Tensor | None:
    if isinstance(side, _GAUSSIAN_VECTOR):
        return precise(side.scale_tril)  # torch has no singular values in half precision
    return torch.diag_embed(precise(side.scale)) if isinstance(side, D.Normal) else None


def _bures(mean1: Tensor, factor1: Tensor, mean2: Tensor, factor2: Tensor) -> Tensor:
    # tr (S1^1/2 S2 S1^1/2)^1/2 is the nuclear norm of S1^1/2 S2^1/2, and L differs from S^1/2 by a rotation. Singular
    # values, unlike the square root of a matrix, have a gradient that stays finite where they coincide.
    fidelity: Tensor = torch.linalg.svdvals(factor1.mT @ factor2).sum(-1)
    traces = factor1.square().sum((-2, -1)) + factor2.square().sum((-2, -1))
    return (mean1 - mean2).square().sum(-1) + traces - 2.0 * fidelity


def _no_closed_form(p: D.Distribution, q: D.Distribution) -> DivergenceError:
    return DivergenceError(
        f"the 2-Wasserstein distance between {describe(p)} and {describe(q)} has no closed form here: use "
        "limbeck.divergence.kl (or kl_monte_carlo), or give both sites one location-scale family"
    )
