"""What the losses estimate: the KL of the joint, and the surrogate, never below that of the targets."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.core import methods
from tests.core.methods.formulas import DOUBLE, bits_pair, engine, linear_pair
from tests.exact import exact_bits_surrogate, exact_gap, exact_surrogate, gaussian_kl
from tests.small_models import BRANCH, CHAIN, seeded
from tests.zoo import BY_NAME


@pytest.mark.parametrize("nodes", [CHAIN, BRANCH], ids=["chain", "branch"])
def test_local_is_the_kl_of_the_joint(nodes: list) -> None:
    teacher, student = linear_pair(nodes, 0)
    exact = gaussian_kl(teacher.joint("latent", "target"), student.joint("latent", "target"))
    mean, error = engine(methods.local(), teacher, student)
    assert 0 < error < 0.02 * exact
    assert abs(mean - exact) < 5 * error


@pytest.mark.parametrize("name", ["mixed", "loop", "laplace", "classifier"])
def test_local_agrees_with_a_monte_carlo_estimate_of_the_kl_of_the_joint(name: str) -> None:
    entry = BY_NAME[name]
    teacher, student = entry.pair(0, DOUBLE)
    student.eval()
    rows = 20_000
    with torch.no_grad():
        loss = methods.local()(teacher, student, **entry.rows(rows, DOUBLE), generator=seeded()).total.item()
        taught = teacher.trace(**entry.rows(rows, DOUBLE), generator=seeded())
        learned = student.trace(x=entry.rows(rows, DOUBLE).get("x"), values=taught.values)
        ratio = taught.log_prob() - learned.log_prob()
    error = ratio.std().item() / math.sqrt(rows)
    assert error < 0.1 * loss
    assert abs(ratio.mean().item() - loss) < 5 * error


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("nodes", [CHAIN, BRANCH], ids=["chain", "branch"])
def test_surrogate_exceeds_the_marginal_kl_by_the_kl_of_the_noise_given_the_targets(nodes: list, seed: int) -> None:
    teacher, student = linear_pair(nodes, seed)
    surrogate = exact_surrogate(teacher, student)
    marginal = gaussian_kl(teacher.joint("target"), student.joint("target"))
    gap = exact_gap(teacher, student)
    assert gap > 1e-3
    assert surrogate >= marginal
    assert surrogate - marginal == pytest.approx(gap, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("nodes", [CHAIN, BRANCH], ids=["chain", "branch"])
def test_the_engine_estimates_the_exact_surrogate(nodes: list) -> None:
    teacher, student = linear_pair(nodes, 1)
    exact = exact_surrogate(teacher, student)
    mean, error = engine(methods.surrogate(latent_weight=0.0), teacher, student)
    assert 0 < error < 0.02 * exact
    assert abs(mean - exact) < 5 * error


@pytest.mark.parametrize("seed", range(5))
def test_the_surrogate_of_an_enumerated_graph_exceeds_its_marginal_kl(seed: int) -> None:
    teacher, student = bits_pair(seed)
    with torch.no_grad():
        p, q = teacher.marginal(), student.marginal()
        assert p.sum().item() == pytest.approx(1.0, abs=1e-12)
        marginal = (p * (p / q).log()).sum().item()
        surrogate = exact_bits_surrogate(teacher, student)
    assert surrogate >= marginal
    assert surrogate - marginal > 1e-4


def test_the_engine_estimates_the_enumerated_surrogate() -> None:
    teacher, student = bits_pair(0)
    exact = exact_bits_surrogate(teacher, student)
    mean, error = engine(methods.surrogate(latent_weight=0.0), teacher, student)
    assert 0 < error < 0.05 * exact
    assert abs(mean - exact) < 5 * error
