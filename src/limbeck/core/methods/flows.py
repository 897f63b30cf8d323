"""Distillation of flows as named objectives: LKD, ILKD, SKD and their sum ([F] Sec. 3), and by densities alone."""

from __future__ import annotations

from functools import partial

from limbeck.core.coupling import SharedNoise, SharedObservations
from limbeck.core.coupling.depth import Depth
from limbeck.core.coupling.inference import Observed
from limbeck.core.divergence import Trimmed, log_ratio, lp
from limbeck.core.methods.weights import check_weights
from limbeck.core.objective import Combined, Divergence, Match, Objective, Weight
from limbeck.core.schedule import Ramp
from limbeck.core.trace import Kind
from limbeck.errors import MatchError

__all__ = ["combined", "density", "guided", "ilkd", "lkd", "reverse_density", "skd"]

combined = Combined


def lkd(
    weight: Weight = 0.1, density_weight: Weight = 0.9, *, distance: Divergence = lp, observed: Observed = "data"
) -> Objective:
    r"""Latent knowledge distillation: compare both flows' latents of the same rows ([F] Eq. 12).

    .. math:: L = -\lambda_0 \log p_s(x) + \lambda_1 |t(x) - s(x)|_1

    For LKD the paper prints weights without any distillation ([F] Sec. 4.2: lambda_0 = 1, the others 0); the defaults
    are those that it has for :func:`ilkd`.

    Args:
        weight: lambda_1, of the distance between latents, summed over elements.
        density_weight: lambda_0, of the student's likelihood of these rows, as :func:`~limbeck.divergence.log_ratio`
            to the teacher's.
        distance: between two latents.
        observed: whose rows: the data's, as in the paper, or the teacher's samples.

    Raises:
        MatchError: a weight is negative.
    """
    check_weights(weight=weight, density_weight=density_weight)
    return Objective(
        [*_density(density_weight), Match("u[*]", divergence=distance, weight=weight, kind=Kind.LATENT)],
        SharedObservations(observed),
    )


def ilkd(
    weight: Weight = 0.1,
    density_weight: Weight = 0.9,
    *,
    depth: Depth = "steps",
    distance: Divergence = lp,
    observed: Observed = "data",
    pool: int = 0,
    align: bool = True,
    share: float = 0.5,
) -> Objective:
    r"""Intermediate latent knowledge distillation: compare the rows after each step, too ([F] Eq. 13).

    .. math:: L = -\lambda_0 \log p_s(x) + \lambda_1 \sum_i |t_i(x) - s_i(x)|_1

    Args:
        weight: lambda_1, of the distances, each summed over elements; the last of them is that of :func:`lkd`.
        density_weight: lambda_0, as for :func:`lkd`.
        depth: which steps correspond; see :mod:`limbeck.core.coupling.depth`. The paper has ``"levels"``.
        distance: between two rows.
        observed: whose rows. With ``"teacher"`` no data are needed: :math:`|s(t^{-1}(z)) - z|_1` is a form of
            :func:`skd` that needs no inverse of the student.
        pool: with the teacher's rows, the number of rows that are drawn once for all steps; see
            :class:`~limbeck.core.coupling.SharedObservations`.
        align: whether a fresh student takes over the teacher's permutations and rotations.
        share: with ``observed="mixed"``, the fraction of each batch that the teacher draws.

    Raises:
        MatchError: a weight is negative.
    """
    check_weights(weight=weight, density_weight=density_weight)
    return Objective(
        [
            *_density(density_weight),
            Match("h[*][*]", divergence=distance, weight=weight, kind=Kind.DETERMINISTIC, required=False),
            Match("u[*]", divergence=distance, weight=weight, kind=Kind.LATENT),
        ],
        SharedObservations(observed, depth, pool, align, share),
    )


def skd(
    weight: Weight = 0.075,
    latent_weight: Weight = 0.075,
    density_weight: Weight = 0.85,
    *,
    depth: Depth = "steps",
    distance: Divergence = lp,
    inverse: bool = True,
    trim: float = 0.0,
    pool: int = 0,
    align: bool = True,
) -> Objective:
    r"""Synthesized knowledge distillation, with the two losses that the paper adds ([F] Eq. 14, 15).

    .. math:: L = -\lambda_0 \log p_s(x) + \lambda_1 L_{ILKD}(t, s, x) + \lambda_2 |t^{-1}(z) - s^{-1}(z)|_1

    (The paper prints a plus before the first term.)

    Args:
        weight: lambda_2, of the samples.
        latent_weight: lambda_1, of the latents along the way.
        density_weight: lambda_0, of the likelihood of data.
        depth: as for :func:`ilkd`.
        distance: between two samples, latents or rows.
        inverse: ``True`` compares samples of both, as in the paper, with gradients through the student's inverse.
            ``False`` is the form without it: the student's latents of the teacher's samples are compared with the
            teacher's, :math:`|s(t^{-1}(z)) - z|_1`, and the same at each step.
        trim: the share of the samples, those on which the two flows are furthest apart, that counts for nothing; see
            :class:`~limbeck.divergence.Trimmed`. A teacher with heavy tails needs about 0.02: single samples of it
            are so large that they would be the whole gradient of their step. A pool is sifted once instead, by what
            the teacher finds least likely; both can be had.
        pool: for the form without inverse, as for :func:`ilkd`.
        align: as for :func:`ilkd`.

    Raises:
        MatchError: a pool is given for the paper's form, which needs the noise of each sample; or a weight is
            negative.
    """
    check_weights(weight=weight, latent_weight=latent_weight, density_weight=density_weight)
    on_data = ilkd(latent_weight, density_weight, depth=depth, distance=distance, align=align)
    between_samples = Trimmed(trim, distance) if trim else distance
    if not inverse:
        on_samples = ilkd(
            weight, 0.0, depth=depth, distance=between_samples, observed="teacher", pool=pool, align=align
        )
        return Combined({"data": on_data, "samples": on_samples})
    if pool:
        raise MatchError("a pool of samples goes with inverse=False; the paper's form shares fresh noise in each step")
    return Combined(
        {
            "data": on_data,
            "samples": Objective([Match(divergence=between_samples, weight=weight, kind=Kind.TARGET)], SharedNoise()),
        }
    )


def guided(
    weight: float = 0.3,
    until: float = 0.5,
    share: float = 0.25,
    *,
    depth: Depth = "steps",
    distance: Divergence = lp,
    pool: int = 0,
    align: bool = True,
) -> Objective:
    r"""Guidance that fades, on data and the teacher's samples together: the recommended method for flows.

    .. math:: L = -(1 - \lambda_\tau) \log p_s(x) + \lambda_\tau \sum_i |t_i(x) - s_i(x)|_1, \quad
              \lambda_\tau = \lambda \max(0, 1 - \tau / \tau_0)

    The teacher's path leads to a good student, but the best student is not on it: a shallower flow that must follow the
    path to the end is held back. The teacher's samples add rows to a small table; on them the first term is
    KL(teacher || student), and the second is the stable form of :func:`skd`. Both kinds of row go through the student
    in one pass, so that a step costs as much as one of :func:`ilkd` and a few samples.

    Args:
        weight: lambda, at the start.
        until: tau_0, the fraction of the training after which there is no guidance.
        share: fraction of each batch that the teacher draws, in [0, 1); 0 leaves only data.
        depth: as for :func:`ilkd`.
        distance: as for :func:`ilkd`.
        pool: as for :func:`ilkd`, if the teacher has a share.
        align: as for :func:`ilkd`.
    """
    check_weights(weight=weight, **{"1 - weight": 1.0 - weight})
    latents, own = Ramp(weight, 0.0, finish=until), Ramp(1.0 - weight, 1.0, finish=until)
    if not share:
        return ilkd(latents, own, depth=depth, distance=distance, align=align)
    return ilkd(latents, own, depth=depth, distance=distance, observed="mixed", pool=pool, align=align, share=share)


def density(
    latent_weight: Weight = 0.0,
    *,
    clip: float | None = None,
    depth: Depth = "steps",
    distance: Divergence = lp,
    pool: int = 0,
    align: bool = True,
) -> Objective:
    r"""Data-free density distillation: KL(teacher || student) on the teacher's samples, with exact densities.

    .. math:: L = E_{x \sim t}[\log t(x) - \log s(x)] + \lambda \sum_i E_{x \sim t} |t_i(x) - s_i(x)|_1

    Args:
        latent_weight: lambda, of the latents along the way.
        clip: see :func:`~limbeck.divergence.log_ratio`.
        depth: as for :func:`ilkd`.
        distance: as for :func:`ilkd`.
        pool: as for :func:`ilkd`.
        align: as for :func:`ilkd`.
    """
    check_weights(latent_weight=latent_weight)
    matches = [Match("log_prob", divergence=partial(log_ratio, clip=clip))]
    if latent_weight:
        matches += ilkd(latent_weight, 0.0, distance=distance).matches
    return Objective(matches, SharedObservations("teacher", depth, pool, align))


def reverse_density() -> Objective:
    r"""Data-free density distillation in reverse: KL(student || teacher) on the student's samples ([F] Eq. 11).

    .. math:: L = E_{x \sim s}[\log s(x) - \log t(x)]

    which is the cross-entropy less the student's entropy; the paper prints a plus.

    Gradients pass through the student's sampling and the frozen teacher's density: for students that sample in one
    pass, such as coupling flows, and teachers that compute densities in one pass.
    """
    return Objective([Match("log_prob", divergence=log_ratio, weight=-1.0)], SharedObservations("student", align=False))


def _density(weight: Weight) -> list[Match]:
    return [] if weight == 0.0 else [Match("log_prob", divergence=log_ratio, weight=weight)]
