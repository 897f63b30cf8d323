"""KL divergences of two laws of one family, element by element, in nats: those that each step of a training needs.

They are kept apart from torch's registry because its dispatch and its in-place masking cost several times the
arithmetic, and because some of its formulas round badly where a student is almost its teacher.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributions as D

from limbeck.core.divergence.categorical import categorical_kl
from limbeck.core.precision import precise
from limbeck.errors import DivergenceError

__all__ = ["CLOSED_FORM", "TEMPERED"]

_SMALL = 1e-30  # in place of 0, so that what is not chosen passes no NaN backwards


def _normal(p: D.Normal, q: D.Normal) -> Tensor:
    scale = precise(q.scale)  # under autocast a law is in half precision, in which squares overflow
    ratio = precise(p.scale) / scale
    difference = (precise(p.loc) - precise(q.loc)) / scale
    # (r - 1)(r + 1) rather than r^2 - 1: no cancellation where a student is almost its teacher.
    return 0.5 * torch.addcmul((ratio - 1.0) * (ratio + 1.0), difference, difference) - ratio.log()


def _categorical(p: Any, q: Any) -> Tensor:
    log_p, log_q = p.logits, q.logits
    if precise(log_p) is not log_p or precise(log_q) is not log_q:  # in half they sum to 1 in two or three digits only
        return _categorical_tempered(p, q, 1.0)
    return categorical_kl(log_p, log_q, p.probs)


def _categorical_tempered(p: Any, q: Any, temperature: float) -> Tensor:
    log_p, log_q = (torch.log_softmax(precise(d.logits) / temperature, dim=-1) for d in (p, q))
    return categorical_kl(log_p, log_q)


def _bernoulli(p: Any, q: Any) -> Tensor:
    # Worked out here where the law holds logits: asked for `probs`, torch takes several times as long.
    probs = vars(p)["probs"] if "probs" in vars(p) else precise(p.logits).sigmoid()
    return _bernoulli_terms(probs, p.logits, q.logits)


def _binomial(p: D.Binomial, q: D.Binomial) -> Tensor:
    if not bool((p.total_count == q.total_count).all()):
        raise DivergenceError("the binomials of teacher and student count different numbers of trials")
    # torch's own takes log(1 - q) of a rounded q, which is inaccurate next to 1.
    return p.total_count * _bernoulli_terms(p.probs, p.logits, q.logits)


def _bernoulli_tempered(p: Any, q: Any, temperature: float) -> Tensor:
    log_p, log_q = (precise(d.logits) / temperature for d in (p, q))
    return _bernoulli_terms(torch.sigmoid(log_p), log_p, log_q)


def _bernoulli_terms(probs: Tensor, logit_p: Tensor, logit_q: Tensor) -> Tensor:
    # Cross entropy less entropy: one fused operation each, forwards and backwards. An infinite logit of the teacher, a
    # bit that it masks, has the entropy 0 of the largest finite one.
    probs, logit_p, logit_q = precise(probs), precise(logit_p), precise(logit_q)
    crossed = F.binary_cross_entropy_with_logits(logit_q, probs, reduction="none")
    crossed = _with_masked_bits(crossed, probs, logit_q)
    return crossed - F.binary_cross_entropy_with_logits(logit_p.nan_to_num(torch.nan), probs, reduction="none")


def _with_masked_bits(crossed: Tensor, probs: Tensor, logit_q: Tensor) -> Tensor:
    """0 or infinity in place of NaN where the student masks a bit by an infinite logit, as the teacher does or not."""
    # Asked on a CPU alone, where that costs less than the repair; a GPU would stall, and a compiler break off.
    asks = crossed.device.type == "cpu" and not torch.compiler.is_compiling()
    if asks and not bool(crossed.isnan().any()):
        return crossed
    unlike = torch.where(logit_q > 0.0, 1.0 - probs, probs) > 0.0
    return torch.where(logit_q.isinf(), torch.where(unlike, torch.inf, 0.0), crossed)


def _poisson(p: D.Poisson, q: D.Poisson) -> Tensor:
    # A rate of 0 has no logarithm, but 0 log 0 = 0. The logarithm of the quotient rounds least where the two are close.
    rate, other = precise(p.rate), precise(q.rate)
    difference = other - rate
    near = torch.special.xlog1py(rate, (difference / rate.clamp_min(_SMALL)).clamp(-0.5, 0.5))
    far = torch.xlogy(rate, other) - torch.xlogy(rate, rate)
    return difference - torch.where(difference.abs() < 0.5 * rate, near, far)


def _geometric(p: D.Geometric, q: D.Geometric) -> Tensor:
    r"""With logits a, b, their difference d = b - a and success p: :math:`\log(1 + p (e^d - 1)) / p - d`."""
    success, difference = p.probs, q.logits - p.logits
    # The first rounds least where d is small, the second elsewhere; neither overflows.
    near = torch.log1p(success * torch.expm1(difference.clamp(-1.0, 1.0)))
    far = torch.logaddexp(F.logsigmoid(-p.logits), F.logsigmoid(p.logits) + difference)
    return torch.where(difference.abs() < 1.0, near, far) / success - difference


CLOSED_FORM: dict[tuple[type, type], Callable[[Any, Any], Tensor]] = {
    (D.Normal, D.Normal): _normal,
    (D.Categorical, D.Categorical): _categorical,
    (D.OneHotCategorical, D.OneHotCategorical): _categorical,
    (D.Bernoulli, D.Bernoulli): _bernoulli,
    (D.Binomial, D.Binomial): _binomial,
    (D.Poisson, D.Poisson): _poisson,
    (D.Geometric, D.Geometric): _geometric,
}

TEMPERED: dict[type | None, Callable[[Any, Any, float], Tensor]] = {
    D.Categorical: _categorical_tempered,
    D.OneHotCategorical: _categorical_tempered,
    D.Bernoulli: _bernoulli_tempered,
}
