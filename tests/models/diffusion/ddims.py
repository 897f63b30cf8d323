"""Samplers of a small network, and those of diffusers beside them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.models import DDIM
from tests.zoo import TINY_UNET

diffusers = pytest.importorskip("diffusers")


def model(
    seed: int = 0, dtype: torch.dtype = torch.float64, unet: dict[str, Any] | None = None, **settings: Any
) -> DDIM:
    """A tiny network whose output depends on everything it is given."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = DDIM(TINY_UNET | (unet or {}), **settings).to(dtype).eval()
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return built


def noise(rows: int = 2, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    return torch.randn(rows, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def image(ddim: DDIM, x_T: Tensor, x: Tensor | None = None) -> Tensor:
    """What a model makes of noise, in the diffusion's units."""
    return 2 * ddim.sample(noise={"x_T": x_T}, x=x, output="mean")["x_0"] - 1


@torch.no_grad()
def theirs(ddim: DDIM, x_T: Tensor, steps: int, spacing: str = "leading", **settings: Any) -> Tensor:
    """The same by diffusers' own scheduler, in double precision."""
    scheduler = diffusers.DDIMScheduler(**{"clip_sample": False, "timestep_spacing": spacing, **settings})
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x_T = scheduler.step(ddim.unet(x_T, t).sample, t, x_T).prev_sample
    return x_T
