"""Gaussian conditionals as networks tell them, and the product of two."""

from __future__ import annotations

import math

from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional as F

__all__ = ["gaussian", "precision_weighted"]


def gaussian(parameters: Tensor) -> Normal:
    """Gaussian from mean and raw scale, stacked along dimension 1.

    Args:
        parameters: shape (batch, 2 * channels, ...).

    Returns:
        Batch shape (batch, channels, ...); scale softplus(raw) / ln 2 + 1e-6, which is 1 at raw = 0.
    """
    mean, raw = parameters.chunk(2, dim=1)
    return Normal(mean, F.softplus(raw) * (1.0 / math.log(2.0)) + 1e-6, validate_args=False)


def precision_weighted(first: Normal, second: Normal) -> Normal:
    """Normalised product of two Gaussian densities (Ladder VAE, Eq. 17-19); batch shapes must agree."""
    first_precision = first.scale.pow(-2)
    second_precision = second.scale.pow(-2)
    variance = 1.0 / (first_precision + second_precision)
    mean = (first.loc * first_precision + second.loc * second_precision) * variance
    return Normal(mean, variance.sqrt(), validate_args=False)
