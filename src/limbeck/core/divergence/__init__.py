"""Divergences between a teacher's site ``p`` and a student's site ``q``.

Each returns one number per batch row, shape ``(batch,)``: a sum over all other dimensions, or with
``normalize=True`` that sum divided by the number of elements of one row of the site's value ([U] App. F). Most are pure
functions; those that learn are modules (:class:`~limbeck.core.divergence.learned.Learned`).
"""

from limbeck.core.divergence.attention import attention
from limbeck.core.divergence.contrast import CRD
from limbeck.core.divergence.density import log_ratio
from limbeck.core.divergence.flow_procedure import solution_flow
from limbeck.core.divergence.forgetting import LwF
from limbeck.core.divergence.information import cross_entropy, kl, kl_monte_carlo, nll
from limbeck.core.divergence.latent import latent_default
from limbeck.core.divergence.learned import Learned
from limbeck.core.divergence.logits import decoupled_kl, logit_error, standardized_kl
from limbeck.core.divergence.observation_model import ObservationModel
from limbeck.core.divergence.perceptual import FeatureDistance
from limbeck.core.divergence.regressor import Regressor
from limbeck.core.divergence.selectivity import selectivity
from limbeck.core.divergence.tempered import tempered_kl
from limbeck.core.divergence.transport import lp, mean_lp, wasserstein2
from limbeck.core.divergence.trimmed import Trimmed
from limbeck.core.divergence.vid import VID

__all__ = [
    "CRD",
    "VID",
    "FeatureDistance",
    "Learned",
    "LwF",
    "ObservationModel",
    "Regressor",
    "Trimmed",
    "attention",
    "cross_entropy",
    "decoupled_kl",
    "kl",
    "kl_monte_carlo",
    "latent_default",
    "log_ratio",
    "logit_error",
    "lp",
    "mean_lp",
    "nll",
    "selectivity",
    "solution_flow",
    "standardized_kl",
    "tempered_kl",
    "wasserstein2",
]
