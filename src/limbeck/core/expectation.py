"""The mean of a site's law: shown in pictures where the observation noise is only a tolerance."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Categorical, Cauchy, Distribution, HalfCauchy, MixtureSameFamily

from limbeck.core.reparam.base_law import base_law
from limbeck.errors import ModelError

__all__ = ["WITHOUT_MEAN", "mean"]

WITHOUT_MEAN = (Cauchy, HalfCauchy)
"""Laws whose tails are so heavy that they have no mean; torch returns NaN or infinity rather than an error."""


def mean(distribution: Distribution) -> Tensor:
    """Mean of a law, shape of its value; of a categorical the class probabilities, shape (batch, ..., classes).

    Raises:
        ModelError: it has none, or none is known, as for most transformed laws.
    """
    base = base_law(distribution)
    # A category's number is a label without a mean (torch returns NaN); its one-hot code has one.
    if isinstance(base, Categorical):
        return base.probs
    if isinstance(base, MixtureSameFamily):  # whose parts may be categorical, or without a mean
        return _mean_of_mixture(base)
    try:
        if isinstance(base, WITHOUT_MEAN):
            raise NotImplementedError
        found: Tensor = distribution.mean
    except NotImplementedError:
        raise ModelError(
            f"a {type(base).__name__} has no mean, or none that is known; use draws instead, as with output='sample', "
            "or declare a law that has one"
        ) from None
    return found


def _mean_of_mixture(mixture: MixtureSameFamily) -> Tensor:
    means, weights = mean(mixture.component_distribution), mixture.mixture_distribution.probs
    event = means.dim() - len(mixture.component_distribution.batch_shape)
    return (weights.reshape(weights.shape + (1,) * event) * means).sum(-1 - event)
