"""How each built-in distribution is written as ``value = g(parameters, noise)``.

One small function per law. Scalar laws are increasing in their noise, so two members of one family that share noise
are coupled comonotonically, which is the optimal transport between them on the line; Bernoulli alone is decreasing,
because the convention of [U]'s published experiments is ``z = 1`` where ``noise < p``.

Wherever a textbook inverse CDF cancels in the tails (Laplace, Cauchy, half-normal, Kumaraswamy), it is rewritten so
that noise as small as the smallest that is ever drawn gives a finite and accurate value in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import distributions as D
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from limbeck.core.delta import Delta
from limbeck.core.precision import precise
from limbeck.core.reparam.discrete import push_binomial, push_geometric, push_poisson
from limbeck.core.reparam.noise import Law, draw
from limbeck.core.reparam.student_t import push_student_t

__all__ = ["BUILT_IN", "Rule", "by_icdf", "parameter"]


class Rule(NamedTuple):
    """What is known of one distribution type.

    Attributes:
        law: the law of its noise, or a function of the distribution that returns it.
        noise: draws it; ``None`` stands for ``batch_shape + event_shape`` draws of ``law``.
        push: maps ``(distribution, noise)`` to a value.
    """

    law: Law | Callable[[Any], Law]
    push: Callable[[Any, Tensor], Tensor]
    noise: Callable[[Any, torch.Generator | None], Tensor] | None = None


def parameter(distribution: D.Distribution) -> Tensor:
    """Return a tensor that has the distribution's dtype and device."""
    held = vars(distribution)
    for name in distribution.arg_constraints:
        value = held.get(name)
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    for value in held.values():
        if isinstance(value, D.Distribution):
            return parameter(value)
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    return torch.empty(0)


def by_icdf(d: D.Distribution, u: Tensor) -> Tensor:
    """Inverse CDF: increasing, and differentiable wherever the quantile function is."""
    return d.icdf(u)


# ---------------------------------------------------------------------------------------------- continuous, scalar


def _normal(d: D.Normal, noise: Tensor) -> Tensor:
    return torch.addcmul(d.loc, d.scale, _no_finer(noise, d.loc))


def _no_finer(noise: Tensor, like: Tensor) -> Tensor:
    """Noise for a law in half precision, which may come from a discrete law or a conversion, in finer steps."""
    if noise.dtype is like.dtype or precise(like) is like:
        return noise
    return noise.to(like.dtype)


def _log_normal(d: Any, noise: Tensor) -> Tensor:
    return _normal(d.base_dist, noise).exp()


def _uniform(d: D.Uniform, u: Tensor) -> Tensor:
    return torch.addcmul(d.low, d.high - d.low, u)


def _exponential(d: D.Exponential, u: Tensor) -> Tensor:
    return -torch.log1p(-u) / d.rate


def _gumbel(d: D.Gumbel, u: Tensor) -> Tensor:
    return torch.addcmul(d.loc, d.scale, -torch.log(-torch.log(u)))


def _laplace(d: D.Laplace, u: Tensor) -> Tensor:
    left = u < 0.5
    tail = torch.log(2.0 * torch.where(left, u, 1.0 - u))
    return torch.addcmul(d.loc, d.scale, torch.where(left, tail, -tail))


def _cauchy(d: D.Cauchy, u: Tensor) -> Tensor:
    left = u < 0.5
    # pi * u rounds past pi for u next to 1, where the tangent changes sign: reflect into the accurate half instead.
    tail = torch.tan(math.pi * torch.where(left, u, 1.0 - u)).reciprocal()
    return torch.addcmul(d.loc, d.scale, torch.where(left, -tail, tail))


def _half_normal(d: D.HalfNormal, u: Tensor) -> Tensor:
    upper: Tensor = torch.special.ndtri(0.5 * (1.0 - precise(u)))  # torch has none in half precision
    return -d.scale * upper


def _half_cauchy(d: D.HalfCauchy, u: Tensor) -> Tensor:
    return d.scale / torch.tan(0.5 * math.pi * (1.0 - u))


def _kumaraswamy(d: D.Kumaraswamy, u: Tensor) -> Tensor:
    # Torch takes a root of 1 - (1 - u)^(1 / b), which rounds to 0 for a small u, where the root is infinitely steep.
    base = -torch.expm1(torch.log1p(-u) / d.concentration0)
    return base ** d.concentration1.reciprocal()


# -------------------------------------------------------------------------------------------------------- vectors


def _multivariate_normal(d: D.MultivariateNormal | D.LowRankMultivariateNormal, noise: Tensor) -> Tensor:
    return d.loc + (d.scale_tril @ _no_finer(noise, d.loc).unsqueeze(-1)).squeeze(-1)


# ------------------------------------------------------------------------------------------------------- discrete


def _fine_noise(d: D.Distribution, generator: torch.Generator | None) -> Tensor:
    """Uniform noise in at least single precision: in half, its steps are coarser than rare events are rare."""
    return draw(Law.UNIFORM, d._batch_shape + d._event_shape, _single(parameter(d)), generator)


def _single(like: Tensor) -> Tensor:
    """A tensor of the same device in at least single precision."""
    fine = like.dtype is torch.float32 or like.dtype is torch.float64
    return like if fine else like.new_empty(0, dtype=torch.float32)


def _bernoulli(d: D.Bernoulli, u: Tensor) -> Tensor:
    # Asked for `probs`, the distribution computes them with a graph that nothing here needs.
    probs: Tensor = vars(d)["probs"] if "probs" in vars(d) else d.logits.detach().sigmoid()
    return (u < probs).to(probs.dtype)


def _categorical_noise(d: Any, generator: torch.Generator | None) -> Tensor:
    # `logits` is computed from `probs` on first use; the push needs it anyway. In half precision two categories would
    # often be equal, and the first of them would win.
    return draw(Law.GUMBEL, d.logits.shape, _single(d.logits), generator)


def _categorical(d: D.Categorical, gumbel: Tensor) -> Tensor:
    return torch.argmax(d.logits + gumbel, dim=-1)


def _one_hot(d: D.OneHotCategorical, gumbel: Tensor) -> Tensor:
    scores = (d.logits + gumbel).detach()
    return torch.zeros_like(scores, dtype=d.logits.dtype).scatter_(-1, scores.argmax(-1, keepdim=True), 1.0)


def _one_hot_straight_through(d: D.OneHotCategoricalStraightThrough, gumbel: Tensor) -> Tensor:
    probs = d.probs
    return _one_hot(d, gumbel) + (probs - probs.detach())


# -------------------------------------------------------------------------------------------------------- relaxed


def _logit_relaxed_bernoulli(d: D.relaxed_bernoulli.LogitRelaxedBernoulli, u: Tensor) -> Tensor:
    return (torch.logit(u) + d.logits) / d.temperature


def _exp_relaxed_categorical(d: ExpRelaxedCategorical, gumbel: Tensor) -> Tensor:
    return torch.log_softmax((d.logits + gumbel) / d.temperature, dim=-1).to(d.logits.dtype)


# -------------------------------------------------------------------------------------------------- deterministic


def _delta_noise(d: Delta, generator: torch.Generator | None) -> Tensor:
    dtype = d.value.dtype if d.value.is_floating_point() else torch.get_default_dtype()
    return torch.empty((*d.batch_shape[:1], 0), dtype=dtype, device=d.value.device)


def _delta(d: Delta, noise: Tensor) -> Tensor:
    return d.value


BUILT_IN: dict[type[D.Distribution], Rule] = {
    D.Normal: Rule(Law.NORMAL, _normal),
    D.LogNormal: Rule(Law.NORMAL, _log_normal),
    D.MultivariateNormal: Rule(Law.NORMAL, _multivariate_normal),
    # Through the Cholesky factor rather than the low-rank factor: the noise then has the shape of the value, whatever
    # the rank, and a teacher and a student of different rank (or of full covariance) can share it.
    D.LowRankMultivariateNormal: Rule(Law.NORMAL, _multivariate_normal),
    D.Uniform: Rule(Law.UNIFORM, _uniform),
    D.Exponential: Rule(Law.UNIFORM, _exponential),
    D.Laplace: Rule(Law.UNIFORM, _laplace),
    D.Gumbel: Rule(Law.UNIFORM, _gumbel),
    D.Cauchy: Rule(Law.UNIFORM, _cauchy),
    # torch builds these as |base| or through decreasing maps, neither of which is increasing in the base's noise.
    D.HalfNormal: Rule(Law.UNIFORM, _half_normal),
    D.HalfCauchy: Rule(Law.UNIFORM, _half_cauchy),
    D.Kumaraswamy: Rule(Law.UNIFORM, _kumaraswamy),
    D.StudentT: Rule(Law.UNIFORM, push_student_t),
    D.Bernoulli: Rule(Law.REVERSED, _bernoulli, _fine_noise),
    D.Binomial: Rule(Law.UNIFORM, push_binomial, _fine_noise),
    D.Poisson: Rule(Law.UNIFORM, push_poisson, _fine_noise),
    D.Geometric: Rule(Law.UNIFORM, push_geometric, _fine_noise),
    D.Categorical: Rule(Law.GUMBEL, _categorical, _categorical_noise),
    D.OneHotCategorical: Rule(Law.GUMBEL, _one_hot, _categorical_noise),
    D.OneHotCategoricalStraightThrough: Rule(Law.GUMBEL, _one_hot_straight_through, _categorical_noise),
    D.relaxed_bernoulli.LogitRelaxedBernoulli: Rule(Law.UNIFORM, _logit_relaxed_bernoulli),
    ExpRelaxedCategorical: Rule(Law.GUMBEL, _exp_relaxed_categorical, _categorical_noise),
    Delta: Rule(Law.NONE, _delta, _delta_noise),
}
