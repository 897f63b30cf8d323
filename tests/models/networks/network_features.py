"""Networks with drawn weights, images for them, and the features that they return."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from limbeck.models.networks.base import ImageNetwork


def build(make: Callable[[], ImageNetwork], seed: int = 0) -> ImageNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def features(network: ImageNetwork, x: Tensor) -> list[Tensor]:
    found = []
    for path in network.feature_paths:
        network.get_submodule(path).register_forward_hook(lambda module, given, output: found.append(output))
    network(x)
    return found
