"""Small models of drawings, and drawings that end where they like."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.models import VRNN


def built(seed: int = 0, steps: int = 3, width: int = 5, **options: object) -> VRNN:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = VRNN(steps=steps, width=width, features=4, latent_size=2, **options).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2.0)
    model.shift.copy_(torch.tensor([1.0, -2.0]))
    model.scale.copy_(torch.tensor([3.0, 0.5]))
    return model


def drawings(rows: int = 6, steps: int = 3, seed: int = 0) -> Tensor:
    """Of one, two, three, ... points in turn."""
    y = torch.randn(rows, steps, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y[..., 2] = (y[..., 2] > 0).double()
    y[..., 3] = torch.nn.functional.one_hot(torch.arange(rows) % steps, steps)
    return y
