"""Which of a teacher's samples are kept: those that return to their latents and have a density."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limbeck.core.coupling.sifting import sifted_samples
from limbeck.core.delta import Delta
from limbeck.core.graph import DGM
from limbeck.core.sites import Sites

ERROR = 1.5e-2  # within the tolerance of 1e-2 (1 + |z|) where |z| is above a half


class Rough(DGM):
    """Its samples are its latents, of which the first returns with an error; half of the rows have no density."""

    def __init__(self) -> None:
        super().__init__()
        self.sign = nn.Parameter(torch.tensor(-1.0))

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        sites.target("y", Delta(sites.latent("z", sites.standard_normal(2))))

    def infer(self, sites: Sites, y: Tensor, x: Tensor | None = None) -> None:
        sites.latent("z", Delta(y + self.sign * torch.tensor([ERROR, 0.0])))
        sites.deterministic("log_prob", torch.where(y[:, 1] > 0.0, y[:, 1], -torch.inf))


def test_samples_are_kept_that_return_and_have_a_density() -> None:
    teacher = Rough()
    drawn = teacher.sample(200, generator=torch.Generator().manual_seed(0))["y"]
    for sign in (-1.0, 1.0):
        nn.init.constant_(teacher.sign, sign)
        kept = sifted_samples(teacher, 200, 0.0, torch.Generator().manual_seed(0))
        assert torch.equal(kept, drawn[(drawn[:, 0].abs() > 0.5) & (drawn[:, 1] > 0.0)])
