"""Student's t as a function of uniform noise, with gradients for all three of its parameters."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

__all__ = ["push_student_t"]


def _quantile(df: Tensor, u: Tensor) -> Tensor:
    """Standard t quantile, in float64 on the CPU, back on the noise's device."""
    # Imported here because scipy.special costs tens of milliseconds that most programs need not pay.
    from scipy.special import stdtrit

    values = stdtrit(df.detach().cpu().double().numpy(), u.detach().cpu().double().numpy())
    return torch.as_tensor(values, dtype=torch.float64, device=u.device)


class _StandardT(torch.autograd.Function):
    """``t(df, u)`` with ``dt/du = 1 / density(t)`` and ``dt/ddf`` by a central difference in float64."""

    @staticmethod
    @override
    def forward(ctx: Any, df: Tensor, u: Tensor) -> Tensor:
        t = _quantile(df, u)
        ctx.save_for_backward(df, u, t)
        return t.to(u.dtype)

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        df, u, t = ctx.saved_tensors
        grad_df = grad_u = None
        if ctx.needs_input_grad[0]:
            grad_df = (grad.double() * _df_central_difference(df, u)).to(df.dtype)
        if ctx.needs_input_grad[1]:
            v = df.double()
            log_density = (
                torch.lgamma(0.5 * (v + 1.0))
                - torch.lgamma(0.5 * v)
                - 0.5 * torch.log(math.pi * v)
                - 0.5 * (v + 1.0) * torch.log1p(t * t / v)
            )
            grad_u = (grad.double() * torch.exp(-log_density)).to(u.dtype)
        return grad_df, grad_u


def _df_central_difference(df: Tensor, u: Tensor) -> Tensor:
    v = df.double()
    # The cube root of the machine epsilon balances truncation against rounding for a central difference.
    step = 6e-6 * v
    return (_quantile(v + step, u) - _quantile(v - step, u)) / (2.0 * step)


def push_student_t(d: Any, u: Tensor) -> Tensor:
    """Return ``loc + scale * t(df, u)``, increasing in the noise; differentiable once in ``df``."""
    shape = torch.broadcast_shapes(d.df.shape, u.shape)  # type: ignore[no-untyped-call]
    t: Tensor = _StandardT.apply(d.df.expand(shape), u.expand(shape))  # type: ignore[no-untyped-call]
    return torch.addcmul(d.loc, d.scale, t)
