"""What the losses between unequal latents bound, exactly: every quantity of linear-Gaussian models is closed form.

Given its noise a model's target is y = A e + a + N(0, S); the student's is B e_S + b + N(0, T) with e_S = R e, and C e'
besides if it has noise of its own.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from limbeck.core import methods
from limbeck.core.coupling import MappedNoise
from limbeck.core.coupling.noise_layout import NoiseLayout
from limbeck.core.divergence import kl_monte_carlo
from limbeck.core.graph import DGM
from limbeck.core.methods import mapped
from limbeck.core.objective import Objective
from limbeck.core.sites import Sites
from tests.zoo import LinearGaussian

TEACHER = [["z2", "latent", 3, []], ["z1", "latent", 2, ["z2"]], ["y", "target", 4, ["z1", "z2"]]]
FEWER = [["c", "latent", 3, []], ["y", "target", 4, ["c"]]]
AS_MANY = [["c", "latent", 4, []], ["d", "latent", 1, ["c"]], ["y", "target", 4, ["c", "d"]]]
MORE = [["c", "latent", 3, []], ["d", "latent", 4, ["c"]], ["y", "target", 4, ["c", "d"]]]
KINDS = ["arrange", "position", "random", "learned"]


def pair(student: list, seed: int = 0) -> tuple[LinearGaussian, LinearGaussian]:
    torch.manual_seed(seed)
    return LinearGaussian(TEACHER).double(), LinearGaussian(student).double()


def expected_kl(mean: Tensor, slope: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """E KL(N(m1, p) || N(m2, q)) where m1 - m2 = ``mean`` + ``slope`` e with e ~ N(0, I)."""
    size = len(p)
    second = torch.outer(mean, mean) + slope @ slope.T
    trace = torch.linalg.solve(q, p + second).trace()
    return 0.5 * (trace - size + torch.logdet(q) - torch.logdet(p))


class Case:
    """A teacher, a student and a map, with every quantity of the theory."""

    def __init__(self, kind: str, student: list, seed: int = 0) -> None:
        self.teacher, self.student = pair(student, seed)
        coupling = MappedNoise(kind, seed=seed)
        coupling.prepare(self.teacher, self.student)
        if kind == "learned":  # somewhere on its way
            with torch.no_grad():
                next(coupling.parameters()).normal_().mul_(10.0)
        self.coupling = coupling
        with torch.no_grad():
            self.R = coupling.noise_map.matrix.clone()
            self.A, self.a, self.S = self.teacher.given_noise()
            both, self.b, self.T = self.student.given_noise()
        places = coupling.noise_map.places
        own = [n for n in range(both.shape[1]) if n not in places.tolist()]
        self.B, self.C = both[:, places], both[:, own]
        lost = torch.eye(self.A.shape[1]).double() - self.R.T @ self.R
        self.blur = self.A @ lost @ self.A.T

    def loss(self, own: bool = True) -> Tensor:
        """E KL(p_T(y | e) || p_S(y | R e, e')); without ``own`` the student's e' is integrated out."""
        slope = torch.cat([self.A - self.B @ self.R, -self.C] if own else [self.A - self.B @ self.R], 1)
        noise = self.T if own else self.T + self.C @ self.C.T
        return expected_kl(self.a - self.b, slope, self.S, noise)

    def information(self) -> Tensor:
        """I_T(y; e | R e)."""
        return 0.5 * (torch.logdet(self.S + self.blur) - torch.logdet(self.S))

    def given_shared(self, own: bool = True) -> Tensor:
        """E KL(p_T(y | e_S) || p_S(y | e_S, e')), e_S = R e."""
        slope = torch.cat([self.A @ self.R.T - self.B, -self.C] if own else [self.A @ self.R.T - self.B], 1)
        noise = self.T if own else self.T + self.C @ self.C.T
        return expected_kl(self.a - self.b, slope, self.S + self.blur, noise)

    def targets(self) -> Tensor:
        """KL(p_T(y) || p_S(y)): what one would like to make small."""
        student = MultivariateNormal(self.b, self.B @ self.B.T + self.C @ self.C.T + self.T)
        return kl_divergence(MultivariateNormal(self.a, self.A @ self.A.T + self.S), student)


# ------------------------------------------------------------------------------------------------- what it bounds


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


# ------------------------------------------------------------------------------------------------- what is optimal


class Affine(DGM):
    """y = weight e + N(0, scale^2): the simplest generator, with a scale that is learned or fixed."""

    def __init__(self, weight: Tensor, scale: float = 0.5, latents: int = 1) -> None:
        super().__init__()
        self.latents = latents
        self.weight = nn.Parameter(weight.clone())
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale), dtype=weight.dtype))

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        size = self.weight.shape[1] // self.latents
        z = [sites.latent(f"z{level}", sites.standard_normal(size)) for level in range(self.latents)]
        mean = torch.cat(z, 1) @ self.weight.T
        sites.target("y", Normal(mean, self.log_scale.exp().expand_as(mean)))


def isotropic_loss(a: Tensor, sigma: float, weight: Tensor, log_scale: Tensor, r: Tensor) -> Tensor:
    size, ratio = len(a), sigma**2 * (-2 * log_scale).exp()
    squared = (a - weight @ r).square().sum() * (-2 * log_scale).exp()
    return 0.5 * (size * (ratio - 1.0 - ratio.log()) + squared)


def setting(rows: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A (4 x 6) with singular values 2, 1.5, 0.6, 0.3, and rows of a random rotation."""
    generator = torch.Generator().manual_seed(seed)
    u, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=generator))
    v, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator))
    a = u @ torch.diag(torch.tensor([2.0, 1.5, 0.6, 0.3]).double()) @ v[:4]
    r, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator))
    return a, r[:rows]


SIGMA = 0.5


def test_best_mean_and_best_scale_given_a_map() -> None:
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


# ------------------------------------------------------------------------------------------------ noise of its own


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


def rebuilt(case: Case) -> Case:
    both, case.b, case.T = (part.detach() for part in case.student.given_noise())
    places = case.coupling.noise_map.places
    own = [n for n in range(both.shape[1]) if n not in places.tolist()]
    case.B, case.C = both[:, places], both[:, own]
    return case


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


# -------------------------------------------------------------------------------------------- what does not hold


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
