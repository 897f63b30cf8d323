"""Which student and which map are best where latents are unequal, and that learning finds them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from limbeck.core.methods import mapped
from tests.core.methods.unequal_cases import SIGMA, Affine, isotropic_loss, setting


def test_given_a_map_no_other_mean_or_scale_is_better() -> None:
    a, r = setting()
    lost = (a - a @ r.T @ r).square().sum()
    weight = (a @ r.T).requires_grad_()
    log_scale = (0.5 * torch.log(SIGMA**2 + lost / 4)).requires_grad_()
    best = isotropic_loss(a, SIGMA, weight, log_scale, r)
    for gradient in torch.autograd.grad(best, (weight, log_scale)):
        assert gradient.abs().max() < 1e-10
    assert best.item() == pytest.approx(2 * math.log1p(lost.item() / (4 * SIGMA**2)), abs=1e-10)
    # A scale that stays the teacher's pays for the blur in full; a learned one only its logarithm.
    fixed = isotropic_loss(a, SIGMA, weight, torch.tensor(math.log(SIGMA), dtype=torch.float64), r)
    assert fixed.item() == pytest.approx(lost.item() / (2 * SIGMA**2), abs=1e-10)
    assert fixed > best
    information = 0.5 * torch.logdet(torch.eye(4).double() + a @ (torch.eye(6).double() - r.T @ r) @ a.T / SIGMA**2)
    assert best > information  # what one scale for all pixels costs beyond what is lost
    generator = torch.Generator().manual_seed(1)
    for _ in range(100):
        nudge = 0.1 * torch.randn(weight.shape, dtype=torch.float64, generator=generator)
        shift = 0.1 * torch.randn((), dtype=torch.float64, generator=generator)
        assert isotropic_loss(a, SIGMA, weight + nudge, log_scale + shift, r) > best


def test_the_best_map_is_the_principal_subspace() -> None:
    """For the squared error and for the information alike."""
    a, _ = setting()
    best = torch.linalg.svd(a).Vh[:2]
    values = torch.linalg.svdvals(a)

    def lost(r: Tensor) -> tuple[float, float]:
        blur = a @ (torch.eye(6).double() - r.T @ r) @ a.T
        return blur.trace().item(), 0.5 * torch.logdet(torch.eye(4).double() + blur / SIGMA**2).item()

    squared, information = lost(best)
    assert squared == pytest.approx(values[2:].square().sum().item(), abs=1e-10)
    assert information == pytest.approx(0.5 * torch.log1p(values[2:].square() / SIGMA**2).sum().item(), abs=1e-10)
    others = [lost(setting(seed=seed)[1]) for seed in range(1, 300)]
    assert min(s for s, _ in others) > squared
    assert min(i for _, i in others) > information


def test_learning_finds_the_best_map() -> None:
    a, _ = setting()
    torch.manual_seed(0)
    teacher = Affine(a, SIGMA, latents=3).eval()
    left = {}
    for kind in ("random", "learned"):
        objective = mapped(kind, start="random", seed=1)
        trained = Affine(torch.zeros(4, 2).double(), SIGMA)
        objective.prepare(teacher, trained)
        groups = [{"params": trained.parameters()}, {"params": objective.parameters(), "lr": 0.2}]
        optimizer = torch.optim.Adam(groups, lr=0.06)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
        generator = torch.Generator().manual_seed(2)
        for _ in range(200):
            optimizer.zero_grad()
            objective(teacher, trained, batch_size=128, generator=generator).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            r = objective.coupling.noise_map.matrix
            left[kind] = isotropic_loss(a, SIGMA, trained.weight, trained.log_scale, r).item()
    best = 2 * math.log1p(torch.linalg.svdvals(a)[2:].square().sum().item() / (4 * SIGMA**2))
    assert best < left["learned"] < 1.05 * best
    assert left["random"] > 2 * best
