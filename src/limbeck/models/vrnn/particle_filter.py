"""A particle filter's lower bound on what a recurrent model says of a drawing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.distributions import Normal

from limbeck.choices import check_choice
from limbeck.core.reparam import Law, noise_like, push
from limbeck.core.reparam.noise import draw
from limbeck.errors import ModelError
from limbeck.models.gaussians import gaussian, precision_weighted
from limbeck.models.vrnn.parts import State

if TYPE_CHECKING:
    from limbeck.models.vrnn.vrnn import VRNN

__all__ = ["Proposal", "particle_bound"]

Proposal = Literal["prior", "posterior"]


@torch.no_grad()
def particle_bound(
    model: VRNN,
    y: Tensor,
    *,
    particles: int = 64,
    proposal: Proposal = "prior",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Lower bound on log p(y) by a particle filter (FIVO; Maddison et al. 2017, Alg. 1).

    .. math:: E \log \hat p(y) \le \log E \hat p(y) = \log p(y)

    Particles are resampled (systematically) where their effective number falls below half. It rises with the number of
    particles and reaches log p(y) in the limit.

    Args:
        model: the model.
        y: drawings, shape (batch, length, 3 or 4), in units of the data.
        particles: number K a drawing.
        proposal: what draws the latents: ``"prior"`` serves models whose encoder was never trained, too;
            ``"posterior"``, the encoder, makes the bound tighter where it was.
        generator: source of noise.

    Returns:
        The bound in nats, shape (batch,).

    Raises:
        ModelError: there is no particle, the proposal is not known, or the drawings do not fit the model.

    References:
        C. Maddison et al., Filtering Variational Objectives, NeurIPS 2017.
    """
    check_choice(ModelError, "particle_bound: proposal", proposal, Proposal)
    if particles < 1:
        raise ModelError(f"particle_bound: particles must be at least 1, not {particles}")
    steps, alive = model.steps_of(y)
    length = torch.full((len(y),), len(steps), device=y.device) if alive is None else alive.sum(0)
    # Longest first: the drawings that are left at a step are then the first ones, and the others cost nothing.
    order = length.argsort(descending=True, stable=True)
    left = (length[None] > torch.arange(len(steps), device=y.device)[:, None]).sum(1).tolist()
    steps = steps[:, order]
    total = y.new_zeros(len(y), dtype=torch.float64)
    log_weight = y.new_zeros(len(y), particles, dtype=torch.float64)
    state: State = (y.new_zeros(len(y) * particles, model.width), y.new_zeros(len(y) * particles, model.width))
    for step, rows in enumerate(left):
        log_weight = log_weight[:rows]
        value = steps[step, :rows].repeat_interleave(particles, dim=0)
        state = (state[0][: len(value)], state[1][: len(value)])
        seen = model.embed(value)
        prior = gaussian(model.prior(state[0]))
        chosen = prior
        if proposal == "posterior":
            chosen = precision_weighted(prior, gaussian(model.encoder(torch.cat([seen, state[0]], dim=1))))
        z = push(chosen, noise_like(chosen, generator))
        features = model.embed_z(z)
        gain = model.law(model.decoder(torch.cat([features, state[0]], dim=1))).log_prob(value)
        if proposal == "posterior":
            gain = gain + _density(prior, z) - _density(chosen, z)
        log_weight = log_weight + gain.double().view(rows, particles)
        state = model.lstm.step(seen, features, state)
        weight = torch.softmax(log_weight, dim=1)
        poor = weight.square().sum(1) * particles > 2.0  # an effective number below half of the particles
        if bool(poor.any()):
            won = torch.logsumexp(log_weight, dim=1) - math.log(particles)
            total[:rows] += torch.where(poor, won, 0.0)
            log_weight = torch.where(poor[:, None], 0.0, log_weight)
            parents = torch.where(poor[:, None], _systematic(weight, generator), _same(weight))
            flat = (parents + particles * torch.arange(rows, device=y.device)[:, None]).flatten()
            state = (state[0][flat], state[1][flat])
        ending = rows - (left[step + 1] if step + 1 < len(left) else 0)
        if ending:
            done = torch.logsumexp(log_weight[rows - ending :], dim=1) - math.log(particles)
            total[rows - ending : rows] += done
    return torch.empty_like(total).index_copy_(0, order, total).to(y.dtype)


def _density(law: Normal, z: Tensor) -> Tensor:
    density: Tensor = law.log_prob(z).sum(1)  # type: ignore[no-untyped-call]
    return density


def _same(weight: Tensor) -> Tensor:
    return torch.arange(weight.shape[1], device=weight.device).expand_as(weight)


def _systematic(weight: Tensor, generator: torch.Generator | None) -> Tensor:
    """Each row's parents by systematic resampling, int64: particle k is drawn K w_k times on average."""
    rows, particles = weight.shape
    start = draw(Law.UNIFORM, torch.Size((rows, 1)), weight, generator)
    points = (start + torch.arange(particles, device=weight.device)) / particles
    return torch.searchsorted(weight.cumsum(1), points).clamp_(max=particles - 1)
