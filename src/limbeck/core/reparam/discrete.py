"""Inverse CDFs of the laws on the integers: the smallest ``k`` with ``CDF(k) >= noise``.

All are non-decreasing in the noise, computed in float64 whatever the parameters' dtype, carry no gradient, and return
floats of the parameters' dtype, as ``torch.distributions`` samples them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch import distributions as D

__all__ = ["push_binomial", "push_geometric", "push_poisson"]


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
    """The quantile function of scipy, on the CPU; ``total_count`` may vary between elements."""
    # Imported here because scipy.stats costs half a second that most programs need not pay.
    from scipy.stats import binom

    shape = torch.broadcast_shapes(d.logits.shape, u.shape)  # type: ignore[no-untyped-call]
    count, probs, noise = (t.cpu().double().expand(shape) for t in (d.total_count, d.logits.double().sigmoid(), u))
    counts = binom.ppf(noise.numpy(), count.numpy(), probs.numpy())
    return torch.as_tensor(counts, dtype=d.logits.dtype, device=u.device)
