"""Distillation between models whose latents differ in number, shape or meaning: named objectives."""

from __future__ import annotations

from collections.abc import Sequence

from limbeck.core.coupling import MappedNoise, TeacherSamples
from limbeck.core.coupling.noise_map import MapKind, Start
from limbeck.core.coupling.replay import Replay
from limbeck.core.divergence import kl, kl_monte_carlo
from limbeck.core.methods.weights import check_weights
from limbeck.core.objective import Divergence, Match, Objective
from limbeck.core.trace import Kind

__all__ = ["mapped", "own_bound"]


def mapped(
    map: MapKind = "position",
    *,
    start: Start = "position",
    samples: int = 1,
    independent: Sequence[str] = (),
    seed: int = 0,
    target: Divergence | None = None,
    own_bound_weight: float = 0.0,
    replay: Replay = "sample",
) -> Objective:
    r"""Surrogate distillation where the latents do not correspond: the student's noise is a map of the teacher's.

    .. math:: L = E_\epsilon[d(p_\phi(y|\epsilon), p_\theta(y|R\epsilon))] + w \, E_{p_\phi(y)}[L_{own}(y)]

    With KL, its first term bounds KL(teacher || student) of the targets for every R. There is no latent term, since the
    latents of one model are not variables of the other.

    Args:
        map: how the noise is mapped; see :class:`~limbeck.core.coupling.MappedNoise`.
        start: the initial value of a learned map.
        samples: number K of draws of the noise that the student has beyond the teacher's; with KL the loss falls with
            K, and remains a bound.
        independent: the student's latents whose noise is always drawn independently.
        seed: of a random map.
        target: divergence between the targets' laws; by default KL, by Monte Carlo if there are several draws.
        own_bound_weight: w, the weight of the student's own loss on the teacher's samples, as in :func:`own_bound`.
        replay: as for :func:`own_bound`.

    Raises:
        MatchError: an argument is none of its choices, or the weight is negative.
    """
    check_weights(own_bound_weight=own_bound_weight)
    divergence = target or (kl if samples == 1 else kl_monte_carlo)
    coupling = MappedNoise(map, start=start, samples=samples, independent=independent, seed=seed)
    matches = [Match(divergence=divergence, kind=Kind.TARGET)]
    return Objective(matches, coupling, replay_weight=own_bound_weight, replay=replay)


def own_bound(*, replay: Replay = "sample", temperature: float = 1.0) -> Objective:
    r"""The student's own loss on the teacher's samples instead of data: any latents, no data, an encoder of its own.

    .. math:: L = E_{p_\phi(y)}[L_{own}(y)] \ge E_{p_\phi(y)}[-\log p_\theta(y)]
              = KL(p_\phi(y) \| p_\theta(y)) + H(p_\phi(y))

    for a loss that is a negative evidence lower bound. With ``replay="mean"``, p_phi is the law of the means of the
    teacher's last conditionals; at another temperature it is the teacher's law with the noise of its latents scaled.
    An encoder that has seen only the teacher's samples does poorly on data that the teacher hardly ever draws: a
    temperature above 1 gives it more of them, but the student's own samples then spread as far as these.

    Args:
        replay: train on draws from the teacher's law (``"sample"``) or on the means of its last conditionals
            (``"mean"``), as usual where the output noise is only a tolerance.
        temperature: of the teacher's latents.

    Raises:
        MatchError: the temperature is not positive.
    """
    return Objective([], TeacherSamples(temperature), replay_weight=1.0, replay=replay)
