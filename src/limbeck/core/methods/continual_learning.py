r"""Continual learning as named objectives ([U] Sec. 4.2, App. F.2): learn new data, keep what an old model knows.

The old model is the frozen teacher, and the student starts from its weights. Every objective has two parts, with weight
:math:`\alpha` for what is old and :math:`1 - \alpha` for what is new ([U] Eq. 16 has one half each). Pass the rows of
new data as ``batch``, and the old domains in which the teacher is to generate as ``x``, one per row. Fine-tuning
without protection is :func:`~limbeck.core.methods.scratch` from the same start.
"""

from __future__ import annotations

from typing import Literal

from limbeck.core.coupling import TeacherSamples, WithPosterior
from limbeck.core.coupling.posterior import Share
from limbeck.core.divergence import kl, latent_default
from limbeck.core.methods.basic import joint, local, surrogate
from limbeck.core.methods.weights import check_weights
from limbeck.core.objective import Divergence, Match, Objective
from limbeck.core.trace import Kind
from limbeck.errors import MatchError

__all__ = ["continual", "continual_local", "replay", "replay_consistent"]


def continual(
    alpha: float = 0.5,
    latent_weight: float = 0.1,
    *,
    target: Divergence = kl,
    latent: Divergence = latent_default,
    posterior_weight: float = 0.0,
) -> Objective:
    r"""Learn new data while distilling the old model by the surrogate method ([U] Eq. 17).

    .. math:: L = \alpha \, L_{our}(x_{old}) + (1 - \alpha) \, L_{train}(y_{new}, x_{new})

    Args:
        alpha: weight of what is old, in [0, 1]; the paper's is one half.
        latent_weight: lambda of :func:`~limbeck.core.methods.surrogate`; the paper does not print its own.
        target: divergence between the targets' laws.
        latent: divergence between the latents' laws.
        posterior_weight: weight of the KL between the old model's posterior and the student's on what the old model
            generates. The paper has no such term; without it, the encoder forgets how to encode old images.

    Raises:
        MatchError: alpha is outside [0, 1].

    Example:
        >>> objective = continual()
        >>> objective.weight, objective.train_weight
        (0.5, 0.5)
    """
    old = surrogate(latent_weight, target=target, latent=latent, posterior_weight=posterior_weight)
    return joint(alpha, old)


def continual_local(
    alpha: float = 0.5, *, target: Divergence = kl, latent: Divergence = kl, latent_weight: float = 1.0
) -> Objective:
    """The same with local distillation of the old model, the baseline of [U] Table 1 (Eq. 15 in place of Eq. 7).

    Args:
        alpha: weight of what is old, in [0, 1].
        target: divergence between the targets' laws.
        latent: divergence between the latents' laws.
        latent_weight: factor of the latents' terms.

    Raises:
        MatchError: alpha is outside [0, 1].
    """
    return joint(alpha, local(target=target, latent=latent, latent_weight=latent_weight))


def replay(alpha: float = 0.5, *, output: Literal["sample", "mean"] = "sample") -> Objective:
    r"""Generative replay: the model's own loss on new data and on what the old model generates (as in CURL).

    .. math:: L = \alpha \, E_{y \sim p_{old}}[L_{train}(y, x_{old})] + (1 - \alpha) \, L_{train}(y_{new}, x_{new})

    CURL's growing mixture of components is left out, since the domain is given.

    Args:
        alpha: weight of what is old, in [0, 1].
        output: what is replayed: draws from the old model's law, or the means of its last conditionals.

    Raises:
        MatchError: alpha is outside [0, 1].

    References:
        Rao et al., Continual Unsupervised Representation Learning, NeurIPS 2019.
    """
    _check(alpha)
    return Objective([], TeacherSamples(), train_weight=1.0 - alpha, replay_weight=alpha, replay=output)


def replay_consistent(
    alpha: float = 0.5,
    consistency: float = 1.0,
    *,
    output: Literal["sample", "mean"] = "sample",
    posterior: Divergence = kl,
    share: Share = "noise",
) -> Objective:
    r"""Generative replay that also keeps the posterior (lifelong generative modelling, LGM, Ramapuram et al. 2020).

    .. math:: L = L_{replay} + \alpha \, \gamma \, E_{y \sim p_{old}}[d(q_{old}(z | y, x_{old}), q(z | y, x_{old}))]

    Its authors have one level of latents with prior N(0, I), whose values are their noise. In a hierarchy a latent that
    says nothing may have a prior, and a posterior, of any width: in values their divergence is then large wherever the
    two priors differ by more than that width, though neither model encodes anything there; in units of noise it is 0.

    Args:
        alpha: weight of what is old, in [0, 1].
        consistency: gamma, the weight of the posteriors' divergence.
        output: what is replayed; see :func:`replay`. The posteriors are compared on draws in either case.
        posterior: divergence between the posteriors, a latent. By default the KL with the old model's law first, as
            everywhere here; the code that its authors published takes it the other way round.
        share: whether the posteriors are compared in units of each model's noise or as they are; see
            :class:`~limbeck.core.coupling.WithPosterior`. With priors N(0, I) both are the same.

    Raises:
        MatchError: alpha is outside [0, 1], or the weight is negative.

    References:
        Ramapuram et al., Lifelong Generative Modeling, Neurocomputing 2020.
    """
    _check(alpha)
    check_weights(consistency=consistency)
    return Objective(
        [Match(divergence=posterior, weight=consistency, kind=Kind.POSTERIOR)],
        WithPosterior(TeacherSamples(), share=share),
        weight=alpha, train_weight=1.0 - alpha, replay_weight=alpha, replay=output,
    )  # fmt: skip


def _check(alpha: float) -> None:
    if not 0.0 <= alpha <= 1.0:
        raise MatchError(f"alpha must lie in [0, 1], not {alpha}")
