"""The papers' formulas written out by hand, pairs of models of known laws, and the engine's estimate of a loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limbeck.core.objective import Objective
from limbeck.models import LadderVAE
from tests.small_models import Bits, LinearGaussian, seeded

DOUBLE = torch.float64


def kl_normal(m1: Tensor, s1: Tensor, m2: Tensor, s2: Tensor) -> Tensor:
    """KL(N(m1, s1^2) || N(m2, s2^2)), elementwise, as every textbook has it."""
    return torch.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5


def kl_bits(logits1: Tensor, logits2: Tensor) -> Tensor:
    p, q = torch.sigmoid(logits1), torch.sigmoid(logits2)
    return p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))


def kl_classes(logits1: Tensor, logits2: Tensor) -> Tensor:
    p, q = torch.softmax(logits1, -1), torch.softmax(logits2, -1)
    return (p * torch.log(p / q)).sum(-1)


def engine(objective: Objective, teacher, student, *, batches: int = 20, rows: int = 4096) -> tuple[float, float]:
    """The loss estimated by the engine, and its standard error."""
    generator = seeded(11)
    with torch.no_grad():
        losses = torch.stack(
            [objective(teacher, student, batch_size=rows, generator=generator).total for _ in range(batches)]
        )
    return losses.mean().item(), losses.std().item() / math.sqrt(batches)


def linear_pair(nodes: list, seed: int) -> tuple[LinearGaussian, LinearGaussian]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LinearGaussian(nodes).double(), LinearGaussian(nodes).double()


def bits_pair(seed: int) -> tuple[Bits, Bits]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Bits().double(), Bits().double()


def two_levels(seed: int) -> LadderVAE:
    torch.manual_seed(seed)
    return LadderVAE(image_size=8, image_channels=1, levels=2, latent_channels=2, width=3).double().eval()
