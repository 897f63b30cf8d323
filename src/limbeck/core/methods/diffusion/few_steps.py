"""Methods for samplers of many steps: the Denoising Student ([D]), and methods that close the gap that it leaves."""

from __future__ import annotations

from functools import partial

from limbeck.core.coupling import Coupling, SharedNoise, SharedValues
from limbeck.core.divergence import FeatureDistance, kl, lp, mean_lp
from limbeck.core.methods.diffusion.consistency import Consistency
from limbeck.core.methods.diffusion.distribution_matching import DistributionMatching
from limbeck.core.methods.diffusion.progressive import Progressive
from limbeck.core.objective import Combined, Divergence, Match, Objective
from limbeck.core.trace import Kind
from limbeck.errors import MatchError

__all__ = ["consistency", "denoising_student", "distribution_matching", "few_step", "progressive", "sharpened"]

consistency = Consistency
distribution_matching = DistributionMatching
progressive = Progressive


def denoising_student(order: float = 2.0) -> Objective:
    r"""The Denoising Student ([D] Eq. 10, 11): one evaluation learns the output of a sampler from the same noise.

    .. math:: L = E_{x_T}[KL(p_\phi(x_0 | x_T) \,\|\, p_\theta(x_0 | x_T))]
              = \tfrac12 E_{x_T} \|F_\theta(x_T) - F_\phi(x_T)\|_2^2

    which is :func:`~limbeck.core.methods.surrogate` on the graph of a sampler, whose only latent is :math:`x_T`.

    Args:
        order: 2 as written; 1 for the sum of absolute differences of pixels in [0, 1], which the paper found better on
            CIFAR-10.

    Raises:
        MatchError: it is neither.
    """
    return Objective([Match(kind=Kind.TARGET, divergence=_of_targets(order))], SharedNoise())


def few_step(
    state_weight: float = 1.0,
    *,
    order: float = 2.0,
    from_states: bool = False,
    feature_weight: float = 0.0,
    features: FeatureDistance | None = None,
) -> Objective:
    r"""A sampler of few steps learns from one of many, at each intermediate state that both have.

    .. math:: L = E_{x_T}[d(x_0^\phi, x_0^\theta) + \lambda \sum_t d(x_t^\phi, x_t^\theta)]

    The latent distillation loss of [U] Eq. 7 on the graph of [D]: the states are deterministic given the noise, so the
    Wasserstein distance between their laws is a norm. States of the teacher at times that the student does not visit
    are ignored.

    Args:
        state_weight: lambda.
        order: of both distances: 2 for half the squared error, 1 for the sum of absolute differences.
        from_states: whether the student takes each step from the teacher's state rather than from its own: local
            distillation. Its steps then never see the errors of those before them, nor learn to correct them.
        feature_weight: factor of a distance between the images in the features of a network.
        features: that distance; by default :class:`~limbeck.divergence.FeatureDistance` in the classifier of the data.

    Raises:
        MatchError: the order is neither 1 nor 2, or a weight is negative.
    """
    if feature_weight < 0:
        raise MatchError(f"feature_weight must not be negative: {feature_weight}")
    if state_weight < 0 or (from_states and state_weight == 0):
        raise MatchError(f"state_weight must {'be positive' if from_states else 'not be negative'}: {state_weight}")
    matches = [Match(kind=Kind.TARGET, divergence=_of_targets(order))]
    if state_weight:
        # States are in the units of the diffusion, in which differences are twice those of the targets' pixels: with
        # half the weight both count alike. The KL of the targets is half their squared error, too.
        norm: Divergence = lp if order == 1.0 else partial(lp, order=2.0, root=False)
        matches.append(Match("x[*]", divergence=norm, weight=state_weight / 2, kind=Kind.DETERMINISTIC, partial=True,
                             required=False))  # fmt: skip
    if feature_weight:
        features = FeatureDistance() if features is None else features
        matches.append(Match(kind=Kind.TARGET, divergence=features, weight=feature_weight))
    coupling: Coupling = SharedValues(deterministic=True) if from_states else SharedNoise()
    return Objective(matches, coupling)


def sharpened(
    matching_weight: float = 0.5,
    state_weight: float = 1.0,
    *,
    order: float = 2.0,
    low: float = 0.02,
    high: float = 0.3,
) -> Objective:
    """Pairs and distribution matching together: the recommended method for students of one or two steps.

    The regression on pairs (:func:`few_step`) keeps every mode of the teacher, but where a student cannot follow, it
    yields the mean of the possible images, a blur; distribution matching (:class:`DistributionMatching`) moves that to
    an image which the teacher finds likely. In addition to the pairs, a step evaluates the teacher's network once and
    trains a second network: about three times the cost.

    Args:
        matching_weight: factor of distribution matching; both parts are sums over pixels.
        state_weight: as for :func:`few_step`.
        order: as for :func:`few_step`.
        low: smallest noise level that is matched, as a fraction of the diffusion's times.
        high: the largest. The pairs already determine where in the image things are; blur shows at low noise, and at
            high noise the teacher's denoised image is little more than the mean.

    Raises:
        MatchError: an argument is out of its range.
    """
    if not matching_weight > 0:
        raise MatchError(f"matching_weight must be positive, not {matching_weight}; few_step() goes without matching")
    parts = {"pairs": few_step(state_weight, order=order), "matching": DistributionMatching(low, high)}
    return Combined(parts, {"matching": matching_weight})


def _of_targets(order: float) -> Divergence:
    if order not in (1.0, 2.0):
        raise MatchError(f"order must be 1 or 2, not {order}")
    return kl if order == 2.0 else mean_lp
