"""The ladder VAE's laws and bound, written out on its networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limbeck.models import LadderVAE

DOUBLE = torch.float64
SIZES = {3: 1, 2: 2, 1: 4}
Gaussian = tuple[Tensor, Tensor]


def moments(parameters: Tensor) -> Gaussian:
    mean, raw = parameters.chunk(2, 1)
    return mean, torch.log1p(raw.exp()) / math.log(2.0) + 1e-6


def prior(model: LadderVAE, level: int, above: Tensor | None, x: Tensor) -> Gaussian:
    """Mean and scale of p(z_3 | x) or p(z_level | z_{level + 1}, x)."""
    if above is None:
        return moments((x @ model.root.weight.T).reshape(len(x), 4, 1, 1))
    return moments(model.top_down[level](above, x))


def evidence(model: LadderVAE, y: Tensor, x: Tensor) -> dict[int, Gaussian]:
    found, h = {}, y
    for level, network in enumerate(model.bottom_up, start=1):
        h, parameters = network(h, x)
        found[level] = moments(parameters)
    return found


def product(one: Gaussian, other: Gaussian) -> Gaussian:
    variance = 1.0 / (one[1] ** -2 + other[1] ** -2)
    return (one[0] * one[1] ** -2 + other[0] * other[1] ** -2) * variance, variance**0.5


def posterior(model: LadderVAE, level: int, above: Tensor | None, seen: dict[int, Gaussian], x: Tensor) -> Gaussian:
    return seen[level] if above is None else product(seen[level], prior(model, level, above, x))


def noise(rows: int, level: int, generator: torch.Generator | None = None) -> Tensor:
    return torch.randn(rows, 2, SIZES[level], SIZES[level], generator=generator, dtype=DOUBLE)


def kl(p: Gaussian, q: Gaussian) -> Tensor:
    """Mean over rows of KL(p || q), summed over the rest."""
    rows = torch.log(q[1] / p[1]) + (p[1] ** 2 + (p[0] - q[0]) ** 2) / (2 * q[1] ** 2) - 0.5
    return rows.flatten(1).sum(1).mean()


def squared(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """KL of Gaussians of one scale."""
    return ((left - right) ** 2 / (2 * scale**2)).flatten(1).sum(1).mean()


def bound(model: LadderVAE, y: Tensor, x: Tensor, weight: float = 1.0) -> Tensor:
    """Negative evidence lower bound, its KL weighted; noise from the global generator."""
    seen, z, total = evidence(model, y, x), None, torch.zeros((), dtype=DOUBLE)
    for level in (3, 2, 1):
        q = posterior(model, level, z, seen, x)
        total = total + weight * kl(q, prior(model, level, z, x))
        z = q[0] + q[1] * noise(len(y), level)
    error = (y - model.top_down[0](z, x)) ** 2 / (2 * model.output_scale**2)
    constant = y[0].numel() * (math.log(model.output_scale) + 0.5 * math.log(2 * math.pi))
    return total + error.flatten(1).sum(1).mean() + constant


def generated(model: LadderVAE, x: Tensor, generator: torch.Generator) -> tuple[dict[int, Tensor], Tensor, Tensor]:
    """A model's latents, means and samples, given one-hot domains of shape (rows, domains)."""
    z, latents = None, {}
    for level in (3, 2, 1):
        mean, scale = prior(model, level, z, x)
        z = latents[level] = mean + scale * noise(len(x), level, generator)
    mean = model.top_down[0](z, x)
    return latents, mean, mean + model.output_scale * torch.randn(mean.shape, generator=generator, dtype=DOUBLE)


def relative(law: Gaussian, unit: Gaussian) -> Gaussian:
    """In scales of another from its mean."""
    return (law[0] - unit[0]) / unit[1], law[1] / unit[1]
