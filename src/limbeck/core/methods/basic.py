"""Methods for any graph ([U] Sec. 3): the surrogate with the latent loss, local, marginalised, and those on data."""

from __future__ import annotations

from limbeck.core.coupling import Coupling, IndependentNoise, SharedNoise, SharedValues, WithPosterior
from limbeck.core.coupling.posterior import Share
from limbeck.core.coupling.replay import Replay
from limbeck.core.divergence import kl, latent_default
from limbeck.core.methods.weights import check_weights
from limbeck.core.objective import Combined, Divergence, Match, Objective
from limbeck.core.reparam.discrete_gradient import DiscreteGradient
from limbeck.core.trace import Kind
from limbeck.errors import MatchError

__all__ = ["joint", "local", "marginalized", "scratch", "surrogate"]


def surrogate(
    latent_weight: float = 1e-3,
    *,
    target: Divergence = kl,
    latent: Divergence = latent_default,
    posterior_weight: float = 0.0,
    posterior: Divergence = kl,
    reconstruction_weight: float = 0.0,
    inferred_from: Replay = "sample",
    share: Share = "noise",
    own_bound_weight: float = 0.0,
    replay: Replay = "sample",
    discrete_gradient: DiscreteGradient = "none",
    temperature: float = 1.0,
    final_temperature: float = 0.1,
) -> Objective:
    r"""Surrogate distillation with the latent loss: the first paper's own method ([U] Eq. 4-7, Alg. 1).

    .. math:: L = E_{\epsilon}[d(p_\phi(y|\epsilon, x), p_\theta(y|\epsilon, x))]
              + \lambda \sum_i E_{\epsilon}[d(p_\phi(z_i|\epsilon_{<i}, x), p_\theta(z_i|\epsilon_{<i}, x))]

    With KL, the first term bounds KL(teacher || student) of the targets from above ([U] Prop. 3.1). Where the targets
    have no latents it is vanilla knowledge distillation ([U] Eq. 2).

    Args:
        latent_weight: lambda. The paper uses 1 for discrete latents; for continuous ones it searches, and prints none.
        target: divergence between the targets' laws.
        latent: divergence between the latents' laws; by default KL for discrete and squared 2-Wasserstein per element
            for continuous ones ([U] App. F).
        posterior_weight: factor of a third term, :math:`E_{y \sim p_\phi} KL(q_\phi(z|y, x) || q_\theta(z|y, x))`: the
            student's inference program learns the teacher's on the teacher's samples, so that a student that never saw
            data can encode, reconstruct and compute bounds. See :class:`~limbeck.core.coupling.WithPosterior`.
        posterior: divergence between the posteriors' laws.
        reconstruction_weight: factor of a fourth term, the divergence ``target`` between the two models' decoded codes.
        inferred_from: what is encoded: the teacher's samples, or their means.
        share: what the codes of student and teacher have in common: the noise or the values.
        own_bound_weight: factor of the student's own loss on what the teacher generates, another way to train its
            encoder.
        replay: what the teacher generates for that: samples, or their means.
        discrete_gradient: which gradient the student's discrete latents pass backwards; see :class:`SharedNoise`.
        temperature: of relaxed latents, at the start of training.
        final_temperature: the same at the end of training.

    Raises:
        MatchError: a weight is negative.
    """
    check_weights(
        latent_weight=latent_weight, posterior_weight=posterior_weight, reconstruction_weight=reconstruction_weight,
        own_bound_weight=own_bound_weight,
    )  # fmt: skip
    matches = [Match(divergence=target, kind=Kind.TARGET)]
    if latent_weight:
        matches.append(Match(divergence=latent, weight=latent_weight, kind=Kind.LATENT, required=False))
    coupling: Coupling = SharedNoise(
        discrete_gradient=discrete_gradient, temperature=temperature, final_temperature=final_temperature
    )
    if posterior_weight or reconstruction_weight:
        if posterior_weight:
            matches.append(Match(divergence=posterior, weight=posterior_weight, kind=Kind.POSTERIOR))
        if reconstruction_weight:
            matches.append(Match(divergence=target, weight=reconstruction_weight, kind=Kind.RECONSTRUCTION))
        coupling = WithPosterior(coupling, inferred_from, share)
    return Objective(matches, coupling, replay_weight=own_bound_weight, replay=replay)


def local(*, target: Divergence = kl, latent: Divergence = kl, latent_weight: float = 1.0) -> Objective:
    r"""Local distillation: every conditional by itself, given the teacher's values ([U] Eq. 12-15).

    With KL and weight 1 the sum is exactly KL(teacher(y, z | x) || student(y, z | x)) ([U] Eq. 15).

    Args:
        target: divergence between the targets' laws.
        latent: divergence between the latents' laws.
        latent_weight: factor of the latents' terms.

    Raises:
        MatchError: the weight is negative.
    """
    check_weights(latent_weight=latent_weight)
    return Objective(
        [
            Match(divergence=target, kind=Kind.TARGET),
            Match(divergence=latent, weight=latent_weight, kind=Kind.LATENT, required=False),
        ],
        SharedValues(),
    )


def marginalized(samples: int = 12, *, target: Divergence = kl) -> Objective:
    """Divergence between Monte-Carlo marginals of both sides ([U] Eq. 2 with Eq. 11).

    Args:
        samples: number of noise draws for each model.
        target: divergence between the two mixtures; for anything but one classification target a Monte-Carlo one, such
            as :func:`~limbeck.core.divergence.kl_monte_carlo`.
    """
    return Objective([Match(divergence=target, kind=Kind.TARGET)], IndependentNoise(samples))


def scratch() -> Objective:
    """The student's own loss on data, without a teacher: the baseline that every method is compared with."""
    return Objective([], train_weight=1.0)


def joint(alpha: float, distillation: Objective | None = None) -> Objective:
    r"""Training on data and distilling at once: :math:`(1 - \alpha) L_{train} + \alpha L_{our}` ([U] Eq. 10).

    Args:
        alpha: share of the distillation loss, in [0, 1].
        distillation: any objective without a data term; by default :func:`surrogate`.

    Raises:
        MatchError: alpha is outside [0, 1], or the objective trains on data already.
    """
    if not 0.0 <= alpha <= 1.0:
        raise MatchError(f"alpha must lie in [0, 1], not {alpha}")
    distillation = surrogate() if distillation is None else distillation
    if any(isinstance(part, Objective) and part.train_weight != 0.0 for part in distillation.modules()):
        raise MatchError("joint() adds the loss on data itself; give it an objective, or a sum of such, without one")
    if type(distillation) is not Objective:  # one with a loss of its own, which its matches do not tell
        return Combined({"distillation": distillation, "data": scratch()}, {"distillation": alpha, "data": 1.0 - alpha})
    weight = alpha * distillation.weight
    made = Objective(
        distillation.matches, distillation.coupling, weight=weight, train_weight=1.0 - alpha,
        replay_weight=alpha * distillation.replay_weight, replay=distillation.replay,
    )  # fmt: skip
    if len(distillation.learned):  # it was prepared: these may be an optimiser's already
        made.learned = distillation.learned
    return made
