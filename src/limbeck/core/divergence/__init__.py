"""Divergences between a teacher's site ``p`` and a student's site ``q``, as pure functions.

Each returns one number per batch row, shape ``(batch,)``: a sum over all other dimensions, or with
``normalize=True`` that sum divided by the number of elements of one row of the site's value ([U] App. F).
"""

from limbeck.core.divergence.density import log_ratio
from limbeck.core.divergence.information import cross_entropy, kl, kl_monte_carlo, nll
from limbeck.core.divergence.latent import latent_default
from limbeck.core.divergence.perceptual import FeatureDistance
from limbeck.core.divergence.regressor import Regressor
from limbeck.core.divergence.tempered import tempered_kl
from limbeck.core.divergence.transport import lp, mean_lp, wasserstein2

__all__ = [
    "FeatureDistance",
    "Regressor",
    "cross_entropy",
    "kl",
    "kl_monte_carlo",
    "latent_default",
    "log_ratio",
    "lp",
    "mean_lp",
    "nll",
    "tempered_kl",
    "wasserstein2",
]
