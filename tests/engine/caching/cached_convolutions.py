"""A small classifier of images whose outputs are cached, and what tests ask of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from limbeck.core.delta import Delta
from limbeck.core.divergence import kl, lp
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.objective import Match, Objective
from limbeck.core.sites import Sites
from limbeck.core.trace import Kind
from limbeck.engine import TeacherCache, cached
from limbeck.engine.caching.cached_teacher import CachedTeacher
from limbeck.engine.settings.options import Training
from limbeck.engine.training.fit import fit
from tests.tiny import built


class Convolutions(DGM):
    """A classifier of small images: two feature maps and a class; ``latent`` gives it noise."""

    def __init__(self, width: int = 8, latent: bool = False) -> None:
        super().__init__()
        self.latent = latent
        self.first = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, padding=1), nn.ReLU())
        self.head = nn.Linear(2 * width, 4)

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        assert x is not None
        if self.latent:
            x = x + sites.latent("z", sites.standard_normal(1, 8, 8))
        h = sites.deterministic("h[0]", self.first(x))
        h = sites.deterministic("h[1]", self.second(h))
        sites.target("y", Categorical(logits=self.head(h.mean((2, 3))), validate_args=False))

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        law = self.trace(x=batch.x)["y"].distribution
        return Loss.of({"y": -law.log_prob(batch.y).mean()})


def rows(count: int = 40, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Batch(torch.randint(4, (count,), generator=generator), x)


def objective() -> Objective:
    return Objective([Match("h[1]", divergence=lp), Match("y", divergence=kl)], train_weight=1.0)


def options(**changes: Any) -> Training:
    return Training(**{"steps": 12, "batch_size": 8, "learning_rate": 0.01, "log_every": 1} | changes)


def taught(directory: Path, model: DGM | None = None, *, data: Batch | None = None, **changes: Any) -> CachedTeacher:
    """The cached teacher; other arguments are those of ``cached``."""
    given: dict[str, Any] = {"settings": TeacherCache(), "objectives": [objective()], "training": options()} | changes
    return cached(teacher() if model is None else model, rows=rows() if data is None else data,
                  directory=directory, **given)  # fmt: skip


def teacher(seed: int = 0) -> DGM:
    return built(Convolutions, seed).eval()


def history(model: DGM, training: Training | None = None, **changes: Any) -> list[dict[str, float]]:
    """All losses of a training without the clock."""
    student = built(Convolutions, 7)
    fitted = fit(student, objective(), training or options(), teacher=model, data=rows(), seed=3, **changes)
    return [{name: value for name, value in row.items() if name != "seconds"} for row in fitted.history.rows]


def runs(model: CachedTeacher, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each run of the real teacher, from now on."""
    found: list[int] = []
    forward = model.source.generate

    def generate(sites: Sites, x: Tensor | None = None) -> None:
        assert x is not None
        found.append(len(x))
        forward(sites, x)

    monkeypatch.setattr(model.source, "generate", generate)
    return found


def kept_of(model: CachedTeacher, x: Tensor) -> Any:
    """A run that keeps what is stored, so that the teacher need not run for the rest."""
    return model.trace(x=x, keep=lambda name, kind: 3 if name != "h[0]" or kind is Kind.TARGET else 0)


def numbers_of(law: Any) -> Tensor:
    found: Tensor = law.value if isinstance(law, Delta) else law.logits
    return found
