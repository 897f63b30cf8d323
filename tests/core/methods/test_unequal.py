"""What the losses between unequal latents bound, exactly: every quantity of linear-Gaussian models is closed form.

Given its noise a model's target is y = A e + a + N(0, S); the student's is B e_S + b + N(0, T) with e_S = R e, and C e'
besides if it has noise of its own.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from limbeck.core import methods
from limbeck.core.coupling.noise_layout import NoiseLayout
from limbeck.core.divergence import kl_monte_carlo
from limbeck.core.methods import mapped
from limbeck.core.objective import Objective
from tests.core.methods.unequal_cases import (
    AS_MANY,
    FEWER,
    KINDS,
    MORE,
    SIGMA,
    Affine,
    Case,
    expected_kl,
    isotropic_loss,
    pair,
    rebuilt,
    setting,
)
from tests.small_models import LinearGaussian


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("student", [FEWER, AS_MANY, MORE], ids=["fewer", "as many", "more"])
def test_the_objective_is_the_loss_of_the_theory(kind: str, student: list) -> None:
    case = Case(kind, student)
    objective = Objective(mapped(kind).matches, case.coupling)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        draws = torch.stack(
            [objective(case.teacher, case.student, batch_size=500, generator=generator).total for _ in range(40)]
        )
    error = draws.std() / math.sqrt(len(draws))
    assert abs(draws.mean() - case.loss()) < 4.5 * error
    assert error < 0.05 * case.loss()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("student", [FEWER, AS_MANY, MORE], ids=["fewer", "as many", "more"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_loss_is_divergence_given_the_shared_noise_plus_lost_information(kind: str, student: list, seed: int) -> None:
    case = Case(kind, student, seed)
    assert case.loss().item() == pytest.approx((case.given_shared() + case.information()).item(), abs=1e-8)
    assert case.given_shared() >= case.given_shared(own=False) - 1e-9 >= case.targets() - 2e-9
    assert case.loss() >= case.targets() + case.information() - 1e-9
    if student is FEWER:
        assert case.information() > 0.01
    else:  # every number of the teacher's reaches the student
        assert abs(case.information()) < 1e-9


def test_the_lost_information_is_no_matter_of_the_student() -> None:
    """And is reached: the best student given R has the teacher's law given the shared noise, blur included."""
    case = Case("random", FEWER)
    before = case.information()
    case.B, case.b, case.T = case.A @ case.R.T, case.a, case.S + case.blur
    assert case.loss().item() == pytest.approx(before.item(), abs=1e-8)
    assert abs(case.given_shared()) < 1e-8
    assert abs(case.targets()) < 1e-8  # such a student even has the teacher's law


def test_draws_of_own_noise_tighten_the_bound_towards_the_student_without_it() -> None:
    """K = 1 is the plain bound with e' given, K to infinity the one with e' integrated out."""
    case = Case("arrange", MORE)
    with torch.no_grad():  # so that its own noise matters
        case.student.maps["y"].weight.mul_(2.0)
    case = rebuilt(case)
    upper, lower = case.loss(), case.loss(own=False)
    assert upper > lower + 0.5
    means, errors = [], []
    for samples in (1, 2, 8, 64):
        objective = mapped("arrange", samples=samples, target=kl_monte_carlo)
        generator = torch.Generator().manual_seed(3)
        torch.manual_seed(3)
        with torch.no_grad():
            draws = torch.stack(
                [objective(case.teacher, case.student, batch_size=500, generator=generator).total for _ in range(20)]
            )
        means.append(draws.mean().item())
        errors.append(draws.std().item() / math.sqrt(len(draws)))
    assert abs(means[0] - upper) < 4.5 * errors[0]
    for before, after, one, two in zip(means, means[1:], errors, errors[1:], strict=False):
        assert after < before - 2 * math.hypot(one, two)
    assert lower - 4.5 * errors[-1] < means[-1] < lower + 0.25 * (upper - lower)
    assert lower > case.targets()


def test_with_one_draw_the_students_own_noise_is_only_a_burden() -> None:
    """Its gradient shrinks every weight on e': the loss is smallest at C = 0."""
    a, r = setting(4)
    scale = torch.tensor(0.0).double()
    for factor in (0.0, 0.3, 1.0):
        own = factor * torch.ones(4, 2, dtype=torch.float64)
        loss = isotropic_loss(a, SIGMA, a @ r.T, scale, r) + 0.5 * own.square().sum()
        exact = expected_kl(torch.zeros(4).double(), torch.cat([a - a @ r.T @ r, -own], 1),
                            SIGMA**2 * torch.eye(4).double(), torch.eye(4).double())  # fmt: skip
        assert loss.item() == pytest.approx(exact.item(), abs=1e-10)


def test_names_alone_say_nothing_of_what_a_latent_means() -> None:
    """The teacher's z0 is idle. A student that takes its noise by name learns nothing; any map of all of it does."""
    a = torch.tensor([[0.0, 1.0], [0.0, 2.0]]).double()  # z0, z1
    teacher = Affine(a, SIGMA, latents=2).eval()
    by_name = []
    for student_weight in torch.linspace(-2, 2, 9).double():
        student = Affine(student_weight * torch.ones(2, 1).double(), SIGMA, latents=1)  # has a z0 only
        with torch.no_grad():
            by_name.append(methods.surrogate(0.0)(teacher, student, batch_size=4000).total.item())
    r = torch.tensor([[0.0, 1.0]]).double()
    chosen = isotropic_loss(a, SIGMA, a @ r.T, torch.tensor(math.log(SIGMA), dtype=torch.float64), r)
    assert min(by_name) > 9.0  # 10 in expectation: (1 + 4) / (2 * 0.25)
    assert abs(chosen) < 1e-12


def test_a_map_that_depends_on_the_noise_bounds_nothing() -> None:
    """R = sign(e) is orthonormal for each e and makes e_S = |e|: the loss can be 0 and the laws differ all the same."""
    grid = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    # Teacher N(|e|, 1) and student N(e_S, 1): equal given e_S = |e|, so the loss is 0.
    student = torch.exp(Normal(0.0, math.sqrt(2.0)).log_prob(grid))  # as it samples: e_S is normal, y is N(0, 2)
    # A half-normal plus a normal: the skew-normal density with shape 1 (Azzalini 1985).
    teacher = 2.0 * student * torch.special.ndtr(grid / math.sqrt(2.0))
    assert torch.trapezoid(teacher, grid).item() == pytest.approx(1.0, abs=1e-9)
    divergence = torch.trapezoid(torch.special.xlogy(teacher, teacher / student), grid)
    assert divergence.item() == pytest.approx(math.log(2.0) - 0.5, abs=1e-8)  # far from the loss's 0


def test_latent_losses_across_maps_punish_a_perfect_student() -> None:
    """The teacher's latents in another order: the targets agree exactly, latents of one name do not."""
    torch.manual_seed(0)
    teacher = LinearGaussian([["a", "latent", 2, []], ["b", "latent", 2, ["a"]], ["y", "target", 2, ["b"]]]).double()
    student = LinearGaussian([["b", "latent", 2, []], ["a", "latent", 2, ["b"]], ["y", "target", 2, ["a"]]]).double()
    with torch.no_grad():
        for one, two in (("a", "b"), ("b", "a"), ("y", "y")):
            student.maps[two].load_state_dict(teacher.maps[one].state_dict())
            student.raw[two].copy_(teacher.raw[one])
    objective = mapped("arrange")
    with torch.no_grad():
        assert objective(teacher, student, batch_size=64).total.item() == pytest.approx(0.0, abs=1e-12)
        latent = methods.surrogate(1.0)(teacher, student, batch_size=64).terms
    assert latent["a"] + latent["b"] > 0.05


def test_layouts_of_the_cases_are_those_the_names_say() -> None:
    sizes = [NoiseLayout.of(pair(student)[1]).size for student in (FEWER, AS_MANY, MORE)]
    assert sizes == [3, 5, 7]
    assert NoiseLayout.of(pair(FEWER)[0]).size == 5
