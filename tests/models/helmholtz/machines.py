"""Helmholtz machines with laws that differ, rows for them, and the enumeration of all their bits."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from limbeck.models import HelmholtzMachine

TREE = {"z3": [], "y2": ["z3"], "z2": ["z3", "y2"], "z1": ["z3"], "y1": ["z1", "z2", "y2"], "y3": []}


def machine(seed: int = 0, **arguments: object) -> HelmholtzMachine:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = HelmholtzMachine(**{"hidden": 3, **arguments}).double()
        with torch.no_grad():  # laws that differ from their parents' states
            for parameter in built.parameters():
                parameter *= 2.0
    return built


def rows(count: int = 6, columns: int = 2) -> Tensor:
    return torch.randn(count, columns, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def enumerated(model: HelmholtzMachine, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """log p(y, z) for every state of all bits, shape (states, rows), and the states, each (states, bits)."""
    names = [name for name in model.graph if name not in model.target_names]
    bits = torch.tensor(list(product((0.0, 1.0), repeat=model.latent_size * len(names))), dtype=torch.float64)
    states = dict(zip(names, bits.split(model.latent_size, dim=1)))
    joint = []
    for i in range(len(bits)):
        values = {name: state[i].expand(len(y), -1) for name, state in states.items()}
        joint.append(model.trace(len(y), values={**values, **model.columns(y)}, noise={}).log_prob())
    return torch.stack(joint), states


def data_fit(model: HelmholtzMachine, data: Tensor) -> float:
    return model.log_likelihood(data).mean().item()
