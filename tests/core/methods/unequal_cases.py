"""Linear-Gaussian pairs of unequal latents, of which every law, bound and optimum is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from limbeck.core.coupling import MappedNoise
from limbeck.core.graph import DGM
from limbeck.core.sites import Sites
from tests.small_models import LinearGaussian

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


def rebuilt(case: Case) -> Case:
    both, case.b, case.T = (part.detach() for part in case.student.given_noise())
    places = case.coupling.noise_map.places
    own = [n for n in range(both.shape[1]) if n not in places.tolist()]
    case.B, case.C = both[:, places], both[:, own]
    return case


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
