"""The mean of a site's law: shown in pictures where the observation noise is only a tolerance."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Categorical, Distribution

from limbeck.core.reparam.base_law import base_law

__all__ = ["mean"]


def mean(distribution: Distribution) -> Tensor:
    """Mean of a law, shape of its value; of a categorical the class probabilities, shape (batch, ..., classes)."""
    base = base_law(distribution)
    # A category's number is a label without a mean (torch returns NaN); its one-hot code has one.
    return base.probs if isinstance(base, Categorical) else distribution.mean
