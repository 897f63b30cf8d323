"""The flow of solution procedure (Yim et al., 2017): how the channels of one layer relate to those of another."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch import distributions as D
from torch.nn import functional as F

from limbeck.core.divergence.features import map_values
from limbeck.core.divergence.rows import check_batch, shown
from limbeck.core.joint import Joint
from limbeck.core.precision import product
from limbeck.errors import DivergenceError

__all__ = ["solution_flow"]


def solution_flow(p: D.Distribution, q: D.Distribution, *, normalize: bool = True) -> Tensor:
    r"""Squared distance between the Gram matrices of two layers, in teacher and student.

    .. math:: d = \frac{1}{mn} \sum_{i=1}^m \sum_{j=1}^n (G^t_{ij} - G^s_{ij})^2, \qquad
              G_{ij} = \frac{1}{HW} \sum_{h,w} a_{ihw} \, b_{jhw}

    Yim et al., Eq. 1 and 2, which sums over i and j; a and b are the features of two layers of one network, before and
    after the computation that the student is to learn. Where one map is smaller, the other is max-pooled to its size,
    as there. Match ``"h[0]&h[1]"`` (short name ``fsp``).

    Args:
        p: the teacher's ``Joint`` of two ``Delta``, values of shape (batch, m, h, w) and (batch, n, h', w').
        q: the student's, with the same numbers of channels; sizes may differ.
        normalize: divide by m n; ``False`` is the paper's sum.

    Returns:
        Shape (batch,).

    Raises:
        DivergenceError: a side is not two maps, or the channels differ.

    References:
        Yim et al., A Gift from Knowledge Distillation, CVPR 2017.
    """
    first, second = _layers(p), _layers(q)
    if first is None or second is None:
        raise DivergenceError(
            f"solution_flow compares two maps a side, as in 'h[0]&h[1]:fsp', not {shown(p)} and {shown(q)}"
        )
    theirs, own = _gram(*first), _gram(*second)
    if theirs.shape != own.shape:
        raise DivergenceError(
            f"solution_flow: the teacher's two layers have {tuple(theirs.shape[1:])} channels, the student's "
            f"{tuple(own.shape[1:])}; they must be the same, since channels are compared one by one. Use vid, fitnet, "
            "at or nst between networks of unequal width"
        )
    errors = (theirs - own).square().flatten(1)
    return errors.mean(1) if normalize else errors.sum(1)


def _layers(law: D.Distribution) -> tuple[Tensor, Tensor] | None:
    """The two maps of one network; ``None`` if the law holds something else."""
    check_batch(law)
    laws = law.laws if isinstance(law, Joint) else ()
    return map_values("solution_flow", *laws) if len(laws) == 2 else None


def _gram(first: Tensor, second: Tensor) -> Tensor:
    """Shape (batch, m, n)."""
    size = [min(sides) for sides in zip(first.shape[2:], second.shape[2:], strict=True)]
    pool: Any = F.adaptive_max_pool1d if len(size) == 1 else F.adaptive_max_pool2d
    first, second = (x if list(x.shape[2:]) == size else pool(x, size) for x in (first, second))
    return product(first.flatten(2) / first[0, 0].numel(), second.flatten(2).mT)
