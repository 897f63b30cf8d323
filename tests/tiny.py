"""A model, a data source and an evaluation that take no time, and recipes of them: what the engine is tested on."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.distributions import Distribution, Gamma, Normal
from torch.nn import functional as F

from limbeck.core.divergence import kl
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.objective import Match, Objective
from limbeck.core.sites import Sites
from limbeck.core.trace import Kind
from limbeck.data import Dataset, DataSource, ImageDataset, ImageSplit
from limbeck.engine.evaluations.evaluation import Evaluation, Judge, Subject
from limbeck.engine.stages.progress import Progress
from limbeck.metrics import Measure


class Tiny(DGM):
    """z2 -> z1 -> an image of one channel, and an encoder; with a batch norm if asked."""

    def __init__(self, width: int = 4, latents: int = 2, size: int = 8, norm: bool = False) -> None:
        super().__init__()
        self.latents, self.size = latents, size
        self.prior = nn.Linear(latents, 2 * latents)
        middle = nn.BatchNorm1d(width) if norm else nn.Identity()
        self.body = nn.Sequential(nn.Linear(latents, width), middle, nn.Tanh(), nn.Linear(width, size * size))
        self.encoder = nn.Linear(size * size, 4 * latents)

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        z2 = sites.latent("z2", sites.standard_normal(self.latents))
        z1 = sites.latent("z1", normal(self.prior(z2)))
        sites.target("y", self.likelihood(z1))

    def infer(self, sites: Sites, y: Tensor, x: Tensor | None = None) -> None:
        upper, lower = self.encoder(y.flatten(1)).chunk(2, 1)
        sites.latent("z2", normal(upper))
        sites.latent("z1", normal(lower))

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        """A bound without noise, so that it does not depend on how many processes share the rows."""
        upper, lower = (normal(part) for part in self.encoder(batch.y.flatten(1)).chunk(2, 1))
        terms = {"y": -self.likelihood(lower.mean).log_prob(batch.y).flatten(1).sum(1).mean()}
        terms["z1"] = kl(lower, normal(self.prior(upper.mean))).mean()
        terms["z2"] = kl(upper, Normal(torch.zeros_like(upper.mean), 1.0)).mean()
        return Loss.of(terms)

    def inference_parameters(self) -> Iterator[nn.Parameter]:
        return self.encoder.parameters()

    def likelihood(self, z: Tensor) -> Normal:
        return Normal(self.body(z).view(-1, 1, self.size, self.size), 0.5)


class Positive(Tiny):
    """A latent of a family that nobody has registered."""

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        z1 = sites.latent("z1", Gamma(sites.zeros(self.latents) + 1.0, 1.0))
        sites.target("y", self.likelihood(z1))


class OneWay(DGM):
    """Generates images like :class:`Tiny`, and has no encoder."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.tiny = Tiny(width)

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        self.tiny.generate(sites, x)


class NotANumber(Tiny):
    """Draws what cannot be used."""

    def likelihood(self, z: Tensor) -> Normal:
        return Normal(super().likelihood(z).loc / 0.0, 0.5, validate_args=False)


class Spots(DataSource):
    """Random spots, 8 x 8; broken in the way that is asked for."""

    def __init__(self, rows: int = 48, broken: str = "", integers: bool = False) -> None:
        self.rows, self.broken, self.integers = rows, broken, integers

    def load(self) -> ImageDataset:
        generator = torch.Generator().manual_seed(0)
        images = (torch.rand(self.rows, 1, 8, 8, generator=generator) > 0.7).float()
        if self.broken == "nan":
            images[3, 0, 1, 1] = float("nan")
        if self.integers:
            images = (255 * images).to(torch.uint8)
        labels = torch.arange(self.rows) % 2
        cut = self.rows // 4
        parts = [
            ImageSplit(images[rows], labels[rows]) for rows in (slice(2 * cut, None), slice(cut), slice(cut, 2 * cut))
        ]
        return ImageDataset("spots", *parts, classes=("even", "odd"))


class Quick(Evaluation):
    """One number, no extractor."""

    def __init__(self, samples: int = 8) -> None:
        self.samples = samples

    def measures(self, dataset: Dataset | None) -> list[Measure]:
        return [Measure("brightness", "brightness", "higher", 3)]

    def judge(self, dataset: Dataset | None, teacher: DGM, cache: Path, seed: int, progress: Progress) -> QuickJudge:
        return QuickJudge(self.samples, seed)

    def dry(self) -> Quick:
        return Quick(2)


class QuickJudge(Judge):
    def __init__(self, samples: int, seed: int) -> None:
        self.samples, self.seed = samples, seed
        self.references, self.notes, self.reference_key = {}, [], ""

    def measure(self, subject: Subject) -> dict[str, float]:
        generator = torch.Generator().manual_seed(self.seed)
        drawn = subject.model.sample(self.samples, generator=generator, output="mean")
        return {"brightness": drawn["y"].mean().item()}


class LearnedScale(nn.Module):
    """A divergence with a parameter of its own: -log N(teacher's mean; student's mean, scale)."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(()))

    def forward(self, teacher: Distribution, student: Distribution) -> Tensor:
        law = Normal(student.mean, F.softplus(self.raw) + 0.1)
        return -law.log_prob(teacher.mean).flatten(1).sum(1)


def learned(weight: float = 1.0) -> Objective:
    """A method of one's own, as a recipe can name it."""
    return Objective([Match(divergence=LearnedScale(), kind=Kind.TARGET)], weight=weight)


def rising(progress: float) -> float:
    return progress


def normal(parameters: Tensor) -> Normal:
    loc, raw = parameters.chunk(2, 1)
    return Normal(loc, F.softplus(raw) + 0.1)


def built(kind: Callable[..., DGM] = Tiny, seed: int = 0, **arguments: Any) -> DGM:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(**arguments)


def rows(count: int = 24) -> Batch:
    return Batch(y=torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(5)))


# ------------------------------------------------------------------------------------------------------- recipes, runs

STEPS = {"steps": 12, "batch_size": 8, "checkpoint_every": 3, "log_every": 4, "learning_rate": 0.01}


def recipe(**changes: Any) -> dict[str, Any]:
    """A recipe of the tiny model as plain values."""
    return {
        "title": "Spots",
        "data": {"class_path": "tests.tiny.Spots"},
        "teacher": {"class_path": "tests.tiny.Tiny", "init_args": {"width": 8}},
        "student": {"class_path": "tests.tiny.Tiny", "init_args": {"width": 3}},
        "objective": {"class_path": "limbeck.methods.surrogate"},
        "baselines": {"scratch": {"objective": {"class_path": "limbeck.methods.scratch"}}},
        "evaluation": {"class_path": "tests.tiny.Quick"},
        "teacher_training": dict(STEPS),
        "training": dict(STEPS),
    } | changes


def write_recipe(directory: Path, name: str = "spots", **changes: Any) -> Path:
    path = directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe(**changes)))
    return path


def hashes(directory: Path, pattern: str = "**/*.safetensors") -> dict[str, str]:
    """Relative path to hash, of every file of weights: the bytes themselves must agree."""
    found = {}
    for path in sorted(directory.glob(pattern)):
        found[str(path.relative_to(directory))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def call(*words: str) -> int:
    """The command line, in this process."""
    from limbeck.cli.main import main

    return main([str(word) for word in words])


def in_child(function: Callable[[], object]) -> int:
    """Run something in a forked process, which may be killed; its exit status (negative: the signal)."""
    process = multiprocessing.get_context("fork").Process(target=_exiting, args=(function,))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _exiting(function: Callable[[], object]) -> None:
    raise SystemExit(function())


def die() -> None:
    """As the power cord would have it: no handler, no clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)


def counted(function: Callable[..., Any], limit: int, then: Callable[[], Any] = die) -> Callable[..., Any]:
    """The function, until it is called for the ``limit``-th time: then something else happens before it runs."""
    calls = 0

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == limit:
            then()
        return function(*args, **kwargs)

    return counting
