"""Bounds on the log-likelihood of any model that has an inference program."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limbeck.core.delta import Delta
from limbeck.core.graph import DGM
from limbeck.core.reparam.base_law import base_law
from limbeck.core.trace import Kind, Trace
from limbeck.errors import ModelError, SiteError

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
        model: a model with an inference program over all of its latents.
        y: observed target, shape (batch, ...).
        x: conditioning input, shape (batch, ...).
        samples: number K of posterior draws per row.
        generator: source of noise.

    Returns:
        The bound in nats, shape (batch,).

    Raises:
        SiteError: one of the two programs has a latent that the other does not declare.
        ModelError: the model has several targets and does not say how they form one ``y``; or a target is a function of
            the latents, as in flows, so that a draw of them has a density of zero and no bound exists; or no
            sample is asked for.
    """
    if samples < 1:
        raise ModelError(f"the bound is made of at least one posterior draw a row, not {samples}")
    targets = model.split_targets(y, x)
    weights = []
    for _ in range(samples):
        posterior = model.trace_inference(y, x, generator=generator)
        # noise={}: a latent that the inference program forgot must be an error, not a fresh draw from the prior.
        joint = model.trace(len(y), x, values={**posterior.values, **targets}, noise={})
        _check_has_density(model, joint)
        if extra := [site.name for site in posterior.of_kind(Kind.LATENT) if site.name not in joint.declared]:
            raise SiteError(
                f"{type(model).__name__}.infer declares {', '.join(extra)}, which generate does not have: its density "
                "would count for nothing in the model's, so the result would be no bound"
            )
        weights.append(joint.log_prob() - posterior.log_prob())
    return torch.logsumexp(torch.stack(weights), dim=0) - math.log(samples)


def _check_has_density(model: DGM, joint: Trace) -> None:
    for site in joint.of_kind(Kind.TARGET):
        if isinstance(base_law(site.distribution), Delta):
            raise ModelError(
                f"{type(model).__name__} has no importance-weighted bound, since given its latents the target "
                f"{site.name!r} is a point mass; a flow's density is exact: use model.log_prob(y, x)"
            )
