"""Bounds on the log-likelihood of any model that has an inference program."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.errors import SiteError

__all__ = ["importance_weighted_bound"]


@torch.no_grad()
def importance_weighted_bound(
    model: DGM,
    y: Tensor,
    x: Tensor | None = None,
    *,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Importance-weighted lower bound on log p(y | x) (Burda et al. 2016, Eq. 8); the ELBO for one sample.

    .. math:: \log \frac1K \sum_k \frac{p(y, z_k | x)}{q(z_k | y, x)}, \quad z_k \sim q(z | y, x)

    It rises with K and reaches log p(y | x) in the limit.

    Args:
        model: a model with one target and an inference program over all of its latents.
        y: observed target, shape (batch, ...).
        x: conditioning input, shape (batch, ...).
        samples: number K of posterior draws a row.
        generator: source of noise.

    Returns:
        The bound in nats, shape (batch,).

    Raises:
        SiteError: the model has several targets, or a latent that its inference program does not declare.
    """
    target = _target_name(model, x)
    weights = []
    for _ in range(samples):
        posterior = model.trace_inference(y, x, generator=generator)
        # noise={}: a latent that the inference program forgot must be an error, not a fresh draw from the prior.
        joint = model.trace(len(y), x, values={**posterior.values, target: y}, noise={})
        weights.append(joint.log_prob() - posterior.log_prob())
    return torch.logsumexp(torch.stack(weights), dim=0) - math.log(samples)


def _target_name(model: DGM, x: Tensor | None) -> str:
    names = list(model.trace(1, None if x is None else x[:1]).targets)
    if len(names) != 1:
        raise SiteError(f"{type(model).__name__} has the targets {', '.join(names)}; the bound is for a single one")
    return names[0]
