"""What a distillation step of Helmholtz machines costs next to the least that it can cost.

The models are those of [U] App. F.4, hidden 8 -> 2, batch 272: next to nothing to compute, so that what is measured is
overhead. The yardstick is the same step written out by hand, as in ``step.py``; with ``torch.compile`` both sides are.

    python benchmarks/helmholtz_step.py            a minute or two
    python benchmarks/helmholtz_step.py --quick    few turns: shows that it runs, measures nothing
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch
from timing import Row, Step, add_options, measure, take_turns, training_step
from torch import Tensor
from torch.nn import functional as F

from limbeck.core import methods
from limbeck.models import HelmholtzMachine

BATCH = 272
LEARNING_RATE = 1e-2

Loss = Callable[[], Tensor]


def trained(student: HelmholtzMachine, loss: Loss) -> Step:
    """One step with either side's loss."""
    optimizer = torch.optim.Adam(student.generative_parameters(), LEARNING_RATE, weight_decay=1e-4, fused=True)
    return training_step(loss, optimizer)


def engine_loss(teacher: HelmholtzMachine, student: HelmholtzMachine) -> Loss:
    """As a user of the library writes it."""
    objective = methods.surrogate(latent_weight=1.0)
    return lambda: objective(teacher, student, batch_size=BATCH).total


def hand_loss(teacher: HelmholtzMachine, student: HelmholtzMachine) -> Loss:
    """By hand: a chain, so one input a network; the root's loss needs no batch, and nothing reads a draw of ``y1``."""
    inner = [(teacher.generator[name], student.generator[name], name in teacher.target_names)
             for name in list(teacher.graph)[1:]]  # fmt: skip
    root: Any = teacher.generator["z4"].bias
    learned_root: Any = student.generator["z4"].bias
    factor = 0.5 / (teacher.target_scale**2 * BATCH)
    bits, last = teacher.latent_size, len(inner) - 1

    def divergence(p: Tensor, taught: Tensor, learned: Tensor) -> Tensor:
        return (F.softplus(learned) - F.softplus(taught) + p * (taught - learned)).sum()

    def loss() -> Tensor:
        noise = torch.rand(BATCH, bits)
        p = torch.sigmoid(root.detach())
        taught: list[Any] = []
        with torch.no_grad():
            z = (noise < p).float()
            for index, (network, _, target) in enumerate(inner):
                output = network(z)
                if not target:
                    q, u = torch.sigmoid(output), torch.rand(BATCH, bits)
                    z = (u < q).float()
                    taught.append((output, q, u))
                elif index < last:
                    z = output + teacher.target_scale * torch.randn(BATCH, 1)
                    taught.append((output, z, None))
                else:
                    taught.append((output, None, None))
        total = divergence(p, root.detach(), learned_root)
        z = (noise < torch.sigmoid(learned_root.detach())).float()
        for index, (_, network, target) in enumerate(inner):
            output = network(z)
            mean, given, u = taught[index]
            if target:
                total = total + factor * ((mean - output) ** 2).sum()
                z = given
            else:
                total = total + divergence(given, mean, output) / BATCH
                z = (u < torch.sigmoid(output.detach())).float()
        return total

    return loss


def cases(turns: int, *, compiled: bool) -> Iterator[Row]:
    """The published setting; compiled, each side's loss goes through ``torch.compile`` as a whole."""
    teacher = HelmholtzMachine(hidden=8).eval().requires_grad_(False)
    students = [HelmholtzMachine(hidden=2).train() for _ in range(2)]
    ours, hand = engine_loss(teacher, students[0]), hand_loss(teacher, students[1])
    name = "Helmholtz 8 -> 2, batch 272"
    if compiled:
        ours, hand, name = torch.compile(ours), torch.compile(hand), f"{name}, both compiled"
    yield from take_turns({name: (trained(students[0], ours), 1.15)}, trained(students[1], hand), turns)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_options(parser)
    options = parser.parse_args()
    turns = 5 if options.quick else 1000
    measure([lambda: cases(turns, compiled=False), lambda: cases(turns, compiled=True)], options)


if __name__ == "__main__":
    main()
