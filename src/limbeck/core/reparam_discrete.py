"""Inverse CDFs of the laws on the integers: the smallest ``k`` with ``CDF(k) >= noise``.

All are non-decreasing in the noise, computed in float64 whatever the parameters' dtype, carry no gradient, and return
floats of the parameters' dtype, as ``torch.distributions`` samples them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributions as D

__all__ = ["push_binomial", "push_geometric", "push_poisson"]

_TABLE_ENTRIES = 1 << 22  # 32 MiB of float64: what one slice of the binomial table may hold


@torch.no_grad()
def push_geometric(d: D.Geometric, u: Tensor) -> Tensor:
    """Failures before the first success: ``floor(log(1 - u) / log(1 - p))``."""
    probs: Tensor = d.probs
    failures = torch.floor(torch.log1p(-u.double()) / torch.log1p(-probs.double()))
    return failures.to(probs.dtype)


@torch.no_grad()
def push_poisson(d: D.Poisson, u: Tensor) -> Tensor:
    """Bisection on ``P(Z <= k) = Q(k + 1, rate)``, the regularised upper incomplete gamma function."""
    shape = torch.broadcast_shapes(d.rate.shape, u.shape)  # type: ignore[no-untyped-call]
    rate, u = d.rate.double().expand(shape), u.double().expand(shape)
    if rate.numel() == 0:
        return rate.to(d.rate.dtype)
    # By Bernstein's inequality the mass above `high` is below exp(-70), less than any 1 - u can be.
    high = torch.ceil(rate + 12.0 * rate.sqrt() + 60.0).nan_to_num(1.0, posinf=1.0)
    low = torch.zeros_like(high)
    for _ in range(math.ceil(math.log2(float(high.max()) + 1.0))):
        middle = torch.floor(0.5 * (low + high))
        enough = torch.special.gammaincc(middle + 1.0, rate) >= u
        high = torch.where(enough, middle, high)
        low = torch.where(enough, low, middle + 1.0).minimum(high)
    # A non-finite rate must show in the value, where the training loop looks for it, not as some integer.
    return torch.where(rate.isfinite(), high, torch.nan).to(d.rate.dtype)


@torch.no_grad()
def push_binomial(d: D.Binomial, u: Tensor) -> Tensor:
    """Cumulative sums of the probability table; ``total_count`` may vary between elements.

    Memory is bounded: the elements are worked through in slices of at most about four million table entries.
    """
    dtype = d.logits.dtype
    shape = torch.broadcast_shapes(d.logits.shape, u.shape)  # type: ignore[no-untyped-call]
    count, logits, u = (t.double().expand(shape) for t in (d.total_count, d.logits, u))
    if u.numel() == 0:
        return u.to(dtype)
    # Beyond +-1e4 a probability is 0 or 1 in any float; infinities would give 0 * inf below.
    count, logits, u = count.flatten(), logits.flatten().clamp(-1e4, 1e4), u.flatten()
    columns = int(count.max()) + 1
    k = torch.arange(columns, dtype=torch.float64, device=u.device)
    log_factorial = torch.lgamma(k + 1.0)
    step = max(1, _TABLE_ENTRIES // columns)
    drawn = [
        _binomial_rows(count[i : i + step], logits[i : i + step], u[i : i + step], k, log_factorial)
        for i in range(0, u.numel(), step)
    ]
    return torch.cat(drawn).reshape(shape).to(dtype)


def _binomial_rows(count: Tensor, logits: Tensor, u: Tensor, k: Tensor, log_factorial: Tensor) -> Tensor:
    """Draw for elements of shape ``(n,)`` from a table of shape ``(n, columns)``."""
    n = count.unsqueeze(-1)
    rest = (n - k).clamp(min=0.0).long()
    table = log_factorial[n.long()] - log_factorial - log_factorial[rest]
    table += k * logits.unsqueeze(-1) - n * F.softplus(logits).unsqueeze(-1)
    table.masked_fill_(k > n, -torch.inf)
    cdf = table.exp_().cumsum(-1)
    below = (cdf < u.unsqueeze(-1)).sum(-1).to(torch.float64)
    # The last CDF entry may round to just under one; the count is still at most n.
    drawn = below.minimum(count)
    return torch.where(logits.isfinite(), drawn, torch.nan)
