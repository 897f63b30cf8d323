"""Neuron selectivity transfer (Huang & Wang, 2017): the distributions of two layers' activation patterns."""

from __future__ import annotations

from torch import Tensor
from torch import distributions as D
from torch.nn import functional as F

from limbeck.core.divergence.features import map_values
from limbeck.core.divergence.mean_network import of_one_size
from limbeck.core.precision import product

__all__ = ["selectivity"]


def selectivity(p: D.Distribution, q: D.Distribution) -> Tensor:
    r"""Squared maximum mean discrepancy between the channels' activation patterns, with a quadratic kernel.

    .. math:: d(t, s) = \frac{1}{C_t^2} \sum_{i,j} (t_i \cdot t_j)^2 + \frac{1}{C_s^2} \sum_{i,j} (s_i \cdot s_j)^2
              - \frac{2}{C_t C_s} \sum_{i,j} (t_i \cdot s_j)^2

    Huang & Wang's loss with their polynomial kernel, d = 2 and c = 0, which is what [V] compares with. t_i is the
    pattern of channel i over the positions, scaled to length 1; the number of channels may differ. Means over pairs of
    channels; nothing is divided by the number of positions.

    The kernel need not be evaluated for every pair of channels at every position. With the patterns as rows of T and S
    the sums are squared norms, :math:`\|TT^T\|^2 = \|T^TT\|^2`, so one product of matrices per network and pair is
    enough: between channels or, where there are fewer positions than channels, between positions, where it becomes
    :math:`\|T^TT / C_t - S^TS / C_s\|^2`.

    Args:
        p: the teacher's ``Delta``, value of shape (batch, channels, height, width) or (batch, channels, length).
        q: the student's; where its map has another size, the larger one is averaged to the smaller one's size.

    Returns:
        Shape (batch,).

    Raises:
        DivergenceError: a site is random, or not a map.

    Example:
        >>> import torch
        >>> from limbeck.core.delta import Delta
        >>> selectivity(Delta(torch.tensor([[[1.0, 0.0]]])), Delta(torch.tensor([[[0.0, 2.0]]])))
        tensor([2.])

    References:
        Huang & Wang, Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017.
    """
    theirs, own = of_one_size(*map_values("selectivity", p, q))
    taught, learned = F.normalize(theirs.flatten(2), dim=2), F.normalize(own.flatten(2), dim=2)
    (channels, positions), own_channels = taught.shape[1:], learned.shape[1]
    if positions**2 < (channels**2 + channels * own_channels + own_channels**2) // 2:
        difference = product(taught.mT, taught) / channels - product(learned.mT, learned) / own_channels
        return difference.square().flatten(1).sum(1)

    def mean_kernel(a: Tensor, b: Tensor) -> Tensor:
        return product(a, b.mT).square().flatten(1).mean(1)

    return mean_kernel(taught, taught) + mean_kernel(learned, learned) - 2.0 * mean_kernel(taught, learned)
