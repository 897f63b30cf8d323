"""Models that learn one point, and trainings of them that are validated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from limbeck import methods
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites
from limbeck.engine.settings.options import Training
from limbeck.engine.training.fit import Fitted, fit


class Line(DGM):
    """A point with unit noise; its loss is half the squared distance to the rows' mean, plus noise if asked."""

    def __init__(self, noise: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        self.noise = noise
        self.point = nn.Parameter(torch.zeros(1))
        self.norm = nn.BatchNorm1d(1, affine=False) if norm else nn.Identity()
        self.modes: list[bool] = []

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        sites.target("y", Normal(self.point.expand(sites.batch_size, 1), 1.0))

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        self.modes.append(self.training)
        self.norm(batch.y)
        shaken = batch.y + self.noise * torch.randn_like(batch.y)
        return Loss.of({"y": 0.5 * (shaken - self.point).square().mean()})


class Broken(Line):
    """Its loss on rows below 0 is not a number."""

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        return Loss.of({"y": (super().loss(batch).total * batch.y.mean().sqrt())})


class Gaussian(DGM):
    """Mean and deviation of each column."""

    def __init__(self, columns: int = 8) -> None:
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.zeros(columns)), nn.Parameter(torch.zeros(columns))

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        loc = self.loc.expand(sites.batch_size, -1)
        sites.target("y", Normal(loc, self.log_scale.exp().expand_as(loc)))

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        return Loss.of({"y": -Normal(self.loc, self.log_scale.exp()).log_prob(batch.y).sum(1).mean()})


class Loaded(DGM):
    """No loss of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1))

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        sites.target("y", Normal(self.loc.expand(sites.batch_size, 1), 1.0))


def options(**changes: Any) -> Training:
    """Moves a point by 0.1 a step, at first."""
    usual = {"steps": 20, "batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.0, "log_every": 5}
    return Training(**usual | {"checkpoint_every": 3, "validate_every": 2} | changes)


def at(value: float, count: int = 10) -> Batch:
    return Batch(torch.full((count, 1), value))


def fitted(student: DGM | None = None, validation: Batch | None = None, **changes: Any) -> tuple[DGM, Fitted]:
    """A point that learns 10 and is validated on 0.5, which it passes at about step 5."""
    student = Line() if student is None else student
    keys = ("directory", "progress", "seed", "objective", "teacher")
    arguments = {key: changes.pop(key) for key in keys if key in changes}
    objective = arguments.pop("objective", methods.scratch())
    validation = at(0.5) if validation is None else validation
    return student, fit(student, objective, options(**changes), data=at(10.0), validation=validation, **arguments)
