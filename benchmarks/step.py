"""What a training step costs next to the least that the same step can cost.

The yardstick is written out by hand for each model: teacher forward without gradients, student forward, backward,
optimiser, in plain torch, without sites, distributions or objectives, and with everything left away that this one
model does not need. Both sides take turns in one process, so that whatever else the machine does hits both; what is
reported is the median over the turns of the ratio of their times.

    python benchmarks/step.py                      all cases, some minutes
    python benchmarks/step.py --only tiny fit      some of them
    python benchmarks/step.py --quick              small models and few turns: shows that it runs, measures nothing
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import Row, Step, add_options, measure, take_turns, training_step
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F
from typing_extensions import override

from limbeck.core import methods
from limbeck.core.graph import DGM
from limbeck.core.sites import Sites
from limbeck.engine.teachers.prepare import prepare
from limbeck.models import LadderVAE

LATENT_WEIGHT = 1e-3
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Size:
    """Sizes of everything that is measured; one object for the real thing, one for a quick look."""

    image: dict[str, Any]
    student_widths: tuple[int, ...]
    batch: int
    turns: int
    tiny_turns: int
    digits: dict[str, Any]
    digits_student: int
    fit_steps: int
    fit_turns: int


FULL = Size({"image_size": 32, "image_channels": 3, "levels": 5, "width": 128}, (32, 4), 64, 5, 600,
            {"image_size": 8, "image_channels": 1, "levels": 3, "latent_channels": 4, "width": 32},
            5, 1000, 3)  # fmt: skip
QUICK = Size({"image_size": 8, "image_channels": 1, "levels": 2, "width": 8}, (4,), 4, 2, 5,
             {"image_size": 8, "image_channels": 1, "levels": 2, "width": 4}, 2, 6, 1)  # fmt: skip


def adam(model: DGM) -> torch.optim.Optimizer:
    """The optimiser of both sides."""
    return torch.optim.Adam(model.generative_parameters(), LEARNING_RATE, weight_decay=1e-4, fused=True)


def engine_step(teacher: DGM, student: DGM, batch: int) -> Step:
    """One step as a user of the library writes it."""
    objective = methods.surrogate(LATENT_WEIGHT)
    return training_step(lambda: objective(teacher, student, batch_size=batch).total, adam(student))


# ------------------------------------------------------------------------------------------------------ ladder VAE


def split(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of a latent of the ladder VAE."""
    mean, raw = parameters.chunk(2, 1)
    return mean, F.softplus(raw) * 1.442695 + 1e-6


def hand_ladder_step(teacher: LadderVAE, student: LadderVAE, batch: int) -> Step:
    """The same by hand: both scales of the image are one constant, so its KL is a squared error."""
    optimizer = adam(student)
    top = (batch, teacher.latent_channels, teacher.sizes[-1], teacher.sizes[-1])
    factor = 0.5 / (teacher.output_scale**2 * batch)

    def step() -> None:
        optimizer.zero_grad()
        noises, taught = [torch.randn(top)], []
        with torch.no_grad():
            z = noises[0]
            for level in range(teacher.levels - 1, 0, -1):
                mean, scale = split(teacher.top_down[level](z))
                noise = torch.randn_like(mean)
                z = torch.addcmul(mean, scale, noise)
                noises.append(noise)
                taught.append((mean, scale))
            picture = teacher.top_down[0](z)
        z, loss = noises[0], torch.zeros(())
        for index, level in enumerate(range(student.levels - 1, 0, -1)):
            mean, scale = split(student.top_down[level](z))
            loss = loss + LATENT_WEIGHT * ((taught[index][0] - mean) ** 2 + (taught[index][1] - scale) ** 2).mean()
            z = torch.addcmul(mean, scale, noises[index + 1])
        loss = loss + factor * ((picture - student.top_down[0](z)) ** 2).sum()
        loss.backward()
        optimizer.step()

    return step


def ladder(size: Size) -> Iterator[Row]:
    """Paper-size ladder VAE, with the teacher as it is and prepared, against the teacher as it is by hand."""
    teacher = LadderVAE(**size.image).eval().requires_grad_(False)
    prepared = prepare(teacher)
    width = size.image["width"]
    for student_width in size.student_widths:
        name = f"ladder {width} -> {student_width}"
        plain, fast, least = (LadderVAE(**{**size.image, "width": student_width}).train() for _ in range(3))
        yield from take_turns(
            {
                f"{name}": (engine_step(teacher, plain, size.batch), 1.03),
                f"{name}, prepared": (engine_step(prepared, fast, size.batch), 0.85),
            },
            hand_ladder_step(teacher, least, size.batch),
            size.turns,
        )


def passes(size: Size) -> Iterator[Row]:
    """The teacher's generative pass alone, prepared against as it is."""
    teacher = LadderVAE(**size.image).eval().requires_grad_(False)
    prepared = prepare(teacher)

    def run(model: DGM) -> Step:
        return lambda: model.sample(size.batch)

    yield from take_turns(
        {f"ladder {size.image['width']} sampling, prepared": (run(prepared), 0.72)}, run(teacher), size.turns
    )


# ------------------------------------------------------------------------------------------------------- tiny chain


class Conditional(nn.Module):
    """Residual network of two units."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, 2)
        self.head = nn.Linear(2, 4)

    @override
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, 2) to mean and scale of the same shape."""
        mean, raw = self.head(z + torch.tanh(self.hidden(z))).chunk(2, 1)
        return mean, F.softplus(raw) + 1e-3


class Chain(DGM):
    """Five layers of two units: next to nothing to compute, so a step is all overhead."""

    def __init__(self, depth: int = 5) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Conditional() for _ in range(depth))

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """Draw z5, ..., z1, y."""
        z = sites.latent(f"z{len(self.layers)}", sites.standard_normal(2))
        for index in range(len(self.layers) - 1, 0, -1):
            mean, scale = self.layers[index](z)
            z = sites.latent(f"z{index}", Normal(mean, scale, validate_args=False))
        mean, scale = self.layers[0](z)
        sites.target("y", Normal(mean, scale, validate_args=False))


def hand_chain_step(teacher: Chain, student: Chain, batch: int) -> Step:
    """The same by hand: no draw of ``y``, which nothing reads, and no loss at the root, where it is 0."""
    optimizer = adam(student)
    inner = range(len(teacher.layers) - 1, 0, -1)

    def step() -> None:
        optimizer.zero_grad()
        noises, taught = [torch.randn(batch, 2)], []
        with torch.no_grad():
            z = noises[0]
            for index in inner:
                mean, scale = teacher.layers[index](z)
                noise = torch.randn(batch, 2)
                z = mean + scale * noise
                noises.append(noise)
                taught.append((mean, scale))
            teacher_mean, teacher_scale = teacher.layers[0](z)
        z, loss = noises[0], None
        for place, index in enumerate(inner):
            mean, scale = student.layers[index](z)
            squares = (taught[place][0] - mean) ** 2 + (taught[place][1] - scale) ** 2
            term = LATENT_WEIGHT * (squares.sum(1) / 2).mean()
            loss = term if loss is None else loss + term
            z = mean + scale * noises[place + 1]
        mean, scale = student.layers[0](z)
        ratio, difference = teacher_scale / scale, (teacher_mean - mean) / scale
        loss = loss + (0.5 * (ratio**2 + difference**2 - 1) - ratio.log()).sum(1).mean()
        loss.backward()
        optimizer.step()

    return step


def tiny(size: Size) -> Iterator[Row]:
    """The chain of two-unit layers, batch 256."""
    teacher = Chain().eval().requires_grad_(False)
    sides = {"chain of 2 units, 5 layers": (engine_step(teacher, Chain(), 256), 1.25)}
    yield from take_turns(sides, hand_chain_step(teacher, Chain(), 256), size.tiny_turns)


# -------------------------------------------------------------------------------------------------- training engine


def fit(size: Size) -> Iterator[Row]:
    """A whole distillation, as a user runs it, and its training loop alone, against a loop written by hand.

    Sizes and settings are those of the recipe ladder-vae-digits, but for the steps, a third of its. Both have history
    and checkpoints. The distillation prepares the teacher by itself; the loop has it as it is.
    """
    from limbeck.engine.distill import distill
    from limbeck.engine.settings.options import Training
    from limbeck.engine.training.fit import fit as train

    teacher = LadderVAE(**size.digits).eval().requires_grad_(False)
    whole, loop, least = (LadderVAE(**{**size.digits, "width": size.digits_student}).train() for _ in range(3))
    options = Training(steps=size.fit_steps, batch_size=64, learning_rate=LEARNING_RATE, schedule="cosine")
    objective = methods.surrogate(LATENT_WEIGHT)
    hand = hand_ladder_step(teacher, least, 64)

    def distillation() -> None:
        with tempfile.TemporaryDirectory() as directory:
            distill(teacher, whole, objective, training=options, directory=directory, progress=False)

    def training_loop() -> None:
        with tempfile.TemporaryDirectory() as directory:
            train(loop, objective, options, teacher=teacher, directory=Path(directory))

    def by_hand() -> None:
        for _ in range(size.fit_steps):
            hand()

    name = f"digits {size.digits['width']} -> {size.digits_student}, {size.fit_steps} steps"
    sides = {f"distill, {name}": (distillation, 1.15), f"fit, {name}": (training_loop, 1.15)}
    yield from take_turns(sides, by_hand, size.fit_turns, per=size.fit_steps)


CASES = {"ladder": ladder, "passes": passes, "tiny": tiny, "fit": fit}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), help="which cases")
    add_options(parser)
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    measure([partial(CASES[name], size) for name in options.only], options)


if __name__ == "__main__":
    main()
