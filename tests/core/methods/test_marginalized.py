"""Marginalised distillation against the formula and against the KL of the marginals."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from limbeck.core import methods
from limbeck.core.coupling import IndependentNoise
from limbeck.core.divergence import kl_monte_carlo
from limbeck.core.objective import Match, Objective
from limbeck.errors import MatchError
from tests.core.methods.formulas import DOUBLE, bits_pair, linear_pair
from tests.exact import gaussian_kl
from tests.small_models import CHAIN, seeded
from tests.zoo import BY_NAME, inputs


def test_marginalized_is_the_kl_of_averaged_class_probabilities() -> None:
    teacher, student = BY_NAME["classifier"].pair(0, DOUBLE)
    student.eval()
    rows, draws, x = 5, 7, inputs(5, DOUBLE)
    loss = methods.marginalized(draws)(teacher, student, x=x, generator=seeded())

    generator, averaged = seeded(), []
    for model in (teacher, student):  # [U] Eq. 11: each side with its own noise
        eps = torch.randn(rows * draws, 3, generator=generator, dtype=DOUBLE)
        torch.empty(rows * draws, 4, dtype=DOUBLE).exponential_(generator=generator)  # its targets' own noise
        with torch.no_grad():
            mean, raw = model.encoder(x).chunk(2, 1)
            scale = F.softplus(raw) + 0.1
            total = torch.zeros(rows, 4, dtype=DOUBLE)
            for n in range(draws):
                total += torch.softmax(model.decoder(mean + scale * eps[n::draws]), -1)
        averaged.append(total / draws)
    p, q = averaged
    assert loss.total.item() == pytest.approx((p * (p / q).log()).sum(1).mean().item(), rel=1e-10)


def test_marginalized_with_many_draws_is_the_marginal_kl() -> None:
    teacher, student = bits_pair(3)
    with torch.no_grad():
        p, q = teacher.marginal(), student.marginal()
        loss = methods.marginalized(40_000)(teacher, student, batch_size=1, generator=seeded()).total.item()
    assert loss == pytest.approx((p * (p / q).log()).sum().item(), abs=0.01)


def test_marginalized_of_a_gaussian_target_is_the_marginal_kl_by_monte_carlo() -> None:
    teacher, student = linear_pair(CHAIN, 0)
    exact = gaussian_kl(teacher.joint("target"), student.joint("target"))
    objective = methods.marginalized(1024, target=lambda p, q: kl_monte_carlo(p, q, samples=8))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        losses = torch.stack([objective(teacher, student, batch_size=64).total for _ in range(8)])
    assert abs(losses.mean().item() - exact) < 0.15 * exact + 4 * losses.std().item() / math.sqrt(8)


@pytest.mark.parametrize("name", ["mixed", "branch", "loop"])
def test_marginalized_needs_a_single_target(name: str) -> None:
    entry = BY_NAME[name]
    teacher, student = entry.pair()
    with pytest.raises(MatchError, match=r"single target"):
        methods.marginalized(2, target=kl_monte_carlo)(teacher, student, **entry.rows(2))


def test_marginalized_compares_no_latents() -> None:
    teacher, student = BY_NAME["chain"].pair()
    with pytest.raises(MatchError, match=r"'z1'.*only targets"):
        Objective([Match("z1")], IndependentNoise(2))(teacher, student, batch_size=2)


def test_marginalized_needs_a_draw() -> None:
    with pytest.raises(MatchError, match=r"at least 1"):
        methods.marginalized(0)
