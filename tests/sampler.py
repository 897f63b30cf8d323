"""Teachers for recorded pairs: one like a diffusion sampler, with states between noise and picture, and one unlike."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from limbeck.core.graph import DGM
from limbeck.core.sites import Sites


class Sampler(DGM):
    """x_T -> x[2] -> x[1] -> x_0, all of shape (1, size, size), by ``steps`` steps; one network does them all.

    With ``classes``, conditioned on one-hot rows; with ``extra``, a second latent, and a second target of two numbers.
    """

    def __init__(
        self, size: int = 4, steps: int = 3, classes: int = 0, extra: bool = False, family: str = "normal"
    ) -> None:
        super().__init__()
        self.size, self.steps, self.classes, self.extra, self.family = size, steps, classes, extra, family
        self.network = nn.Linear(size * size + classes + (2 if extra else 0), size * size)
        self.runs: list[int] = []  # rows of every run

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        self.runs.append(sites.batch_size)
        state = sites.latent("x_T", sites.standard_normal(1, self.size, self.size))
        others = [] if x is None else [x]
        if self.extra:
            others.append(sites.latent("e", sites.standard_normal(2)))
        for step in range(self.steps - 1, 0, -1):
            state = sites.deterministic(f"x[{step}]", self.step(state, others))
        sites.target("x_0", self.law(self.step(state, others).sigmoid()))
        if self.extra:
            sites.target("n", Normal(3.0 * others[-1], torch.full_like(others[-1], 0.1)))

    def step(self, state: Tensor, others: list[Tensor]) -> Tensor:
        return state - self.network(torch.cat([state.flatten(1), *others], 1)).view_as(state)

    def law(self, mean: Tensor) -> Distribution:
        law = Normal(mean, torch.full_like(mean, 0.5))
        if self.family == "wide":
            return Normal(mean, 0.1 + mean)
        return Independent(law, 3) if self.family == "independent" else law


class Hierarchy(DGM):
    """Its second latent has a law that depends on the first."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        z2 = sites.latent("z2", sites.standard_normal(2))
        z1 = sites.latent("z1", Normal(z2, self.scale.expand_as(z2)))
        sites.target("y", Normal(z1, torch.ones_like(z1)))
