"""Models whose latents are of any families and sizes, for tests of how noise is mapped between them."""

from __future__ import annotations

import torch
from torch.distributions import Categorical, Laplace, Normal, Uniform

from limbeck.core.coupling import MappedNoise, Request
from limbeck.core.graph import DGM
from limbeck.core.sites import Sites
from limbeck.core.trace import KEEP_ALL, Kind, Trace

ROWS = 20_000
KINDS = ["arrange", "position", "random", "learned"]


class Families(DGM):
    """Latents of the asked families and sizes, and a Gaussian target that sees them all."""

    def __init__(self, latents: dict[str, tuple[str, int]]) -> None:
        super().__init__()
        self.latents = latents
        self.weight = torch.nn.Parameter(torch.ones(2))

    def generate(self, sites: Sites, x: torch.Tensor | None = None) -> None:
        total = sites.zeros(1)
        for name, (family, size) in self.latents.items():
            zeros = sites.zeros(size)
            law = {"normal": Normal(zeros, 1.0), "laplace": Laplace(zeros, 1.0), "uniform": Uniform(zeros, zeros + 1),
                   "categorical": Categorical(logits=zeros)}[family]  # fmt: skip
            total = total + sites.latent(name, law).reshape(sites.batch_size, -1).to(zeros.dtype).sum(1, keepdim=True)
        sites.target("y", Normal(self.weight * total, 1.0))


TEACHER = {"a": ("normal", 2), "b": ("laplace", 2), "c": ("categorical", 3)}
LESS = {"u": ("uniform", 2), "v": ("normal", 3)}
AS_MANY = {"u": ("uniform", 2), "k": ("categorical", 3), "v": ("normal", 2)}
MORE = {"u": ("uniform", 3), "k": ("categorical", 4), "v": ("normal", 3)}


def run(coupling: MappedNoise, teacher: DGM, student: DGM, rows: int = ROWS, **request) -> tuple[Trace, Trace]:
    def keep(name: str, kind: Kind) -> int:
        return KEEP_ALL

    generator = torch.Generator().manual_seed(1)
    asked = Request(rows, None, keep, lambda taught: keep, lambda name, kind: name, generator, **request)
    with torch.no_grad():
        return coupling(teacher, student, asked)


def turned(coupling: MappedNoise, teacher: DGM, student: DGM) -> MappedNoise:
    """Prepared and, where it is learned, away from where it began."""
    coupling.prepare(teacher, student)
    with torch.no_grad():
        for parameter in coupling.parameters():
            if parameter.requires_grad:
                parameter.normal_(generator=torch.Generator().manual_seed(2)).mul_(parameter.shape[-1])
    return coupling
