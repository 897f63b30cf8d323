"""Attention transfer (Zagoruyko & Komodakis, 2017): where in the image two networks look."""

from __future__ import annotations

from torch import Tensor
from torch import distributions as D
from torch.nn import functional as F

from limbeck.core.divergence.features import map_values
from limbeck.core.divergence.mean_network import of_one_size

__all__ = ["attention"]


def attention(p: D.Distribution, q: D.Distribution, *, normalize: bool = True) -> Tensor:
    r"""Squared distance between the attention maps of two features.

    .. math:: d(t, s) = \frac{1}{HW} \left\| \frac{A(t)}{\|A(t)\|} - \frac{A(s)}{\|A(s)\|} \right\|^2,
              \qquad A(t)_{hw} = \sum_c t_{chw}^2

    The activation-based transfer of Zagoruyko & Komodakis (Eq. 2, with their sum of squares) in the form of their
    published experiments: squared norm, mean over positions. Numbers of channels may differ, and sizes: the larger
    attention map is averaged to the smaller one's size.

    Args:
        p: the teacher's ``Delta``, value of shape (batch, channels, height, width) or (batch, channels, length).
        q: the student's.
        normalize: mean over positions, rather than their sum.

    Returns:
        Shape (batch,).

    Raises:
        DivergenceError: a site is random, or not a map.

    Example:
        >>> import torch
        >>> from limbeck.core.delta import Delta
        >>> left, right = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 2.0]]]])
        >>> attention(Delta(left), Delta(right))
        tensor([1.])

    References:
        Zagoruyko & Komodakis, Paying More Attention to Attention, ICLR 2017.
    """
    theirs, own = of_one_size(*(value.square().sum(1, keepdim=True) for value in map_values("attention", p, q)))
    errors = (F.normalize(theirs.flatten(1), dim=1) - F.normalize(own.flatten(1), dim=1)).square()
    return errors.mean(1) if normalize else errors.sum(1)
