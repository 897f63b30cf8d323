"""Gradients through discrete latents, which the draw of a value from its noise cuts off.

The papers' surrogate loss stops at a discrete sample: only the latent loss reaches the layers above it ([U] Sec. 3.3).
Here a draw may pass an estimate of the gradient instead. The choice is the coupling's, never the model's: the same
student is trained with and without, and is always sampled without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch import distributions as D
from torch.nn import functional as F

from limbeck.core.reparam.base_law import base_law
from limbeck.errors import ReparameterizationError

__all__ = ["DiscreteGradient", "Relaxation", "annealed", "relax"]

DiscreteGradient = Literal["none", "straight-through", "relaxed"]
"""What a discrete draw passes backwards: no gradient; that of its mean; or that of a continuous draw in its place."""


@dataclass(frozen=True)
class Relaxation:
    """How the discrete latents of one run pass gradients.

    Attributes:
        gradient: ``"straight-through"`` keeps the discrete value and passes the gradient of the distribution's mean (Y.
            Bengio, Leonard, Courville 2013). ``"relaxed"`` replaces the value by a continuous one of the same noise.
        temperature: of the relaxed value: towards 0 it becomes the discrete one, and its gradient rarer and larger.
    """

    gradient: Literal["straight-through", "relaxed"]
    temperature: float = 1.0


def relax(distribution: D.Distribution, noise: Tensor, value: Tensor, relaxation: Relaxation) -> Tensor:
    """A discrete draw that passes a gradient to its parameters.

    Relaxed values are: for Bernoulli and one-hot categorical laws the concrete variable (Maddison, Mnih, Teh 2017) of
    the same noise; for counts (binomial, Poisson, geometric) the straight-through value blended with the quantile of a
    continuous law of equal mean and variance, temperature : 1 - temperature.

    Args:
        distribution: a discrete law.
        noise: the noise that ``value`` was pushed from.
        value: shape ``batch_shape + event_shape``.
        relaxation: which gradient.

    Returns:
        Shape of ``value``; equal to it for ``"straight-through"``, and in the limit of temperature 0.

    Raises:
        ReparameterizationError: the values are class numbers or transformed, or the law has no relaxed form.

    Example:
        >>> logits = torch.zeros(2, requires_grad=True)
        >>> coin, noise = D.Bernoulli(logits=logits), torch.tensor([0.4, 0.6])
        >>> drawn = relax(coin, noise, torch.tensor([1.0, 0.0]), Relaxation("straight-through"))
        >>> drawn.sum().backward()
        >>> drawn.detach(), logits.grad
        (tensor([1., 0.]), tensor([0.2500, 0.2500]))
    """
    base = base_law(distribution)
    if not value.is_floating_point() or isinstance(base, D.Categorical):
        raise ReparameterizationError(
            f"the value of a {type(base).__name__} is a class number, which has no gradient; declare a "
            "OneHotCategorical, or leave discrete_gradient at 'none'"
        )
    if isinstance(base, D.TransformedDistribution):
        raise ReparameterizationError(
            f"no gradient is passed through the transforms of a discrete {type(base).__name__}; declare the law that "
            "it transforms, and transform its value in the program, or leave discrete_gradient at 'none'"
        )
    if relaxation.gradient == "straight-through":
        return _straight_through(base, value)
    for kind, relaxed in _RELAXED.items():
        if isinstance(base, kind):
            return relaxed(base, noise, value, relaxation.temperature).to(value.dtype)  # the noise may be finer
    raise ReparameterizationError(
        f"{type(base).__name__} has no relaxed form; use discrete_gradient 'straight-through' or 'none'"
    )


def annealed(start: float, end: float, progress: float) -> float:
    """Temperature that falls exponentially with the fraction of training that is done.

    Example:
        >>> [round(annealed(1.0, 0.01, progress), 3) for progress in (0.0, 0.5, 1.0)]
        [1.0, 0.1, 0.01]
    """
    # A power, not an exponential of a logarithm: torch.compile can follow it for any progress.
    temperature: float = start * (end / start) ** progress
    return temperature


def _straight_through(base: Any, value: Tensor) -> Tensor:
    mean: Tensor = base.mean
    # (mean - mean) first: the value then stays what it is, to the last bit. Detached, since the value of torch's own
    # straight-through law already passes this gradient.
    return value.detach() + (mean - mean.detach())


def _bernoulli(base: D.Bernoulli, u: Tensor, value: Tensor, temperature: float) -> Tensor:
    return torch.sigmoid((base.logits - torch.logit(u)) / temperature)


def _one_hot(base: D.OneHotCategorical, gumbel: Tensor, value: Tensor, temperature: float) -> Tensor:
    return torch.softmax((base.logits + gumbel) / temperature, dim=-1)


def _count(base: Any, u: Tensor, value: Tensor, temperature: float) -> Tensor:
    share = min(1.0, temperature)
    # Variance 0 (a probability of 0 or 1) would give the square root an infinite slope.
    spread = base.variance.clamp(min=torch.finfo(value.dtype).eps).sqrt()
    continuous = base.mean + spread * torch.special.ndtri(u)
    return torch.lerp(_straight_through(base, value), continuous.to(value.dtype), share)


def _geometric(base: D.Geometric, u: Tensor, value: Tensor, temperature: float) -> Tensor:
    # The quantile before it is rounded down; half of one is what rounding takes away on average. log(1 - p) from the
    # logits, since a p that rounds to 1 would give the logarithm an infinite slope.
    continuous = -torch.log1p(-u) / F.softplus(base.logits) - 0.5
    return torch.lerp(_straight_through(base, value), continuous.to(value.dtype), min(1.0, temperature))


_RELAXED: dict[type[D.Distribution], Callable[[Any, Tensor, Tensor, float], Tensor]] = {
    D.Bernoulli: _bernoulli,
    D.OneHotCategorical: _one_hot,
    D.Binomial: _count,
    D.Poisson: _count,
    D.Geometric: _geometric,
}
