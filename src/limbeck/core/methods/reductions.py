"""Known methods as special cases of the surrogate objective ([U] Sec. 3.5)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from limbeck.core.coupling import BeamTargets, DataTargets, SharedNoise
from limbeck.core.divergence import Regressor, kl, lp, nll, tempered_kl
from limbeck.core.methods.basic import joint
from limbeck.core.methods.weights import check_weights
from limbeck.core.objective import Divergence, Match, Objective, Weight
from limbeck.core.trace import Kind
from limbeck.errors import MatchError

__all__ = ["feature", "gan", "sequence_level", "sequence_mode", "vanilla", "word_level"]


def vanilla(temperature: float = 4.0, alpha: float = 0.9) -> Objective:
    r"""Knowledge distillation of Hinton et al. (2015): [U] Eq. 2 with tempered KL, beside the loss on the labels.

    .. math:: L = (1 - \alpha) L_{train} + \alpha T^2 \, KL(p_\phi(y|x)^{1/T} \,\|\, p_\theta(y|x)^{1/T})

    It is :func:`~limbeck.core.methods.surrogate` without latents.

    Args:
        temperature: T, for categorical and Bernoulli targets; other targets need 1.
        alpha: share of the distillation, in [0, 1].

    Raises:
        DivergenceError: the temperature is not positive.
        MatchError: alpha is outside [0, 1].
    """
    return joint(alpha, Objective([Match(kind=Kind.TARGET, divergence=tempered_kl(temperature))], SharedNoise()))


def sequence_level(*, target: Divergence = kl) -> Objective:
    r"""Sequence-level distillation by Monte Carlo: every token's conditional, given a prefix that the teacher draws.

    .. math:: L = \sum_j E_{p_\phi(y_{<j} | x)}[KL(p_\phi(y_j | y_{<j}, x) \,\|\, p_\theta(y_j | y_{<j}, x))]

    ([U] Eq. 3.) Its expectation is exactly KL(p_phi(y | x) || p_theta(y | x)) of whole sequences, of which one sequence
    per row is an unbiased estimate. For models without latents it is :func:`~limbeck.core.methods.surrogate`.

    Args:
        target: divergence between the laws of one token.
    """
    return Objective([Match(kind=Kind.TARGET, divergence=target)], SharedNoise())


def sequence_mode(beam_size: int = 5) -> Objective:
    r"""Sequence-level distillation as Kim & Rush (2016, Sec. 3.2) simplify it: train on the teacher's beam output.

    .. math:: L = -\log p_\theta(\hat y | x), \quad \hat y \approx \arg\max_y p_\phi(y | x)

    Args:
        beam_size: sequences that the beam search keeps.

    Raises:
        MatchError: the beam is empty.
    """
    return Objective([Match(kind=Kind.TARGET, divergence=nll)], BeamTargets(beam_size))


def word_level(temperature: float = 1.0, alpha: float = 0.5) -> Objective:
    r"""Word-level distillation (Kim & Rush 2016, Sec. 3.1): every token's conditional, given the data's prefix.

    .. math:: L = (1 - \alpha) L_{train} + \alpha T^2 \sum_j KL(p_\phi(y_j | y_{<j}, x)^{1/T} \,\|\,
              p_\theta(y_j | y_{<j}, x)^{1/T})

    with y from the data. Unlike :func:`sequence_level` it compares on sequences that the teacher need not draw.

    Args:
        temperature: T.
        alpha: share of the distillation, in [0, 1].

    Raises:
        DivergenceError: the temperature is not positive.
        MatchError: alpha is outside [0, 1].
    """
    return joint(alpha, Objective([Match(kind=Kind.TARGET, divergence=tempered_kl(temperature))], DataTargets()))


def feature(
    features: str | Mapping[str, str] = "h[*]",
    *,
    order: float = 2.0,
    weight: Weight = 1.0,
    target: Divergence | None = kl,
    regressors: Mapping[str, Regressor] | None = None,
) -> Objective:
    r"""Distillation of hidden features ([U] Eq. 8; FitNets, Romero et al. 2015), with that of the targets.

    .. math:: L = L_{kd} + w \sum_i r_f(f_{\phi, i}(x), f_{\theta, i}(x))

    A feature is a latent with a degenerate law. The p-Wasserstein distance between two point masses is their distance,
    so the latent loss of [U] Eq. 6 becomes the norm of the difference.

    Args:
        features: sites that are compared: a name or pattern that both models share, or teacher names to student names.
        order: of the norm.
        weight: factor of each feature.
        target: divergence between the targets' laws; ``None`` compares the features alone ([U] Eq. 8).
        regressors: teacher name, as in ``features``, to the learned map where the widths differ, which has an order of
            its own.

    Raises:
        MatchError: a regressor is for a site that is not compared, or the weight is negative.
    """
    check_weights(weight=weight)
    names = {features: None} if isinstance(features, str) else features
    own = regressors or {}
    if unknown := [name for name in own if name not in names]:
        raise MatchError(
            f"no feature {unknown[0]!r} is compared, so it needs no regressor; there are: {', '.join(names) or 'none'}"
        )
    matches = [] if target is None else [Match(kind=Kind.TARGET, divergence=target)]
    for name, student in names.items():
        divergence = own.get(name, partial(lp, order=order))
        matches.append(Match(name, student, divergence, weight, kind=Kind.DETERMINISTIC))
    return Objective(matches, SharedNoise())


def gan(
    features: str | Mapping[str, str] | None = None,
    *,
    order: float = 1.0,
    weight: Weight = 1.0,
    regressors: Mapping[str, Regressor] | None = None,
) -> Objective:
    r"""Distillation of a generator: its output and its feature maps, from the same z ([U] Eq. 9; Li et al. 2020).

    .. math:: L = r_o(G_\phi(z), G_\theta(z)) + w \sum_i r_f(f_{\phi, i}(z), f_{\theta, i}(z))

    Output and features are deterministic given z, so both distances are norms.

    Args:
        features: as for :func:`feature`; ``None`` compares outputs alone (Aguinaldo et al. 2019).
        order: of both norms.
        weight: factor of each feature.
        regressors: as for :func:`feature`.
    """
    output = partial(lp, order=order)
    return feature(
        {} if features is None else features, order=order, weight=weight, target=output, regressors=regressors
    )
