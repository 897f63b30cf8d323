"""When the sum over the conditionals of two inference programs is the KL of their codes: docs/methods.md."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

import limbeck
from limbeck.core.coupling.posterior import Share
from limbeck.core.methods import surrogate

ROWS = 40_000
Y = torch.tensor([[0.7]], dtype=torch.float64)


class Two(limbeck.DGM):
    """z2 -> z1 -> y, with an encoder that draws z2 first, as its prior does, or z1."""

    def __init__(self, bottom_up: bool) -> None:
        super().__init__()
        self.bottom_up = bottom_up
        self.middle, self.last, self.first_mean = nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1)
        self.second_mean = nn.Linear(2, 1)
        self.scale = nn.Parameter(torch.rand(()) + 0.5)
        self.double()

    def generate(self, sites: limbeck.Sites, x: Tensor | None = None) -> None:
        z2 = sites.latent("z2", sites.standard_normal(1))
        z1 = sites.latent("z1", Normal(self.middle(z2), self.scale))
        sites.target("y", Normal(self.last(z1), 0.5))

    def infer(self, sites: limbeck.Sites, y: Tensor, x: Tensor | None = None) -> None:
        first, second = ("z1", "z2") if self.bottom_up else ("z2", "z1")
        z = sites.latent(first, Normal(self.first_mean(y), 0.6))
        sites.latent(second, Normal(self.second_mean(torch.cat([z, y], 1)), 0.7))

    def join_targets(self, targets: object) -> Tensor:
        return Y.expand(ROWS, 1)  # one observation, many codes


def in_units(model: Two, code: dict[str, Tensor], share: Share) -> tuple[dict[str, Tensor], Tensor]:
    """A code in units of the noise or as it is, and the logarithm of the change of volume."""
    sites = model.trace(values={**code, "y": Y.expand(ROWS, 1)})
    laws = {name: sites[name].kept_distribution() for name in code}
    if share == "values":
        return code, torch.zeros(())
    noise = {name: (code[name] - law.mean) / law.stddev for name, law in laws.items()}
    return noise, sum((law.stddev.log().sum(1) for law in laws.values()), torch.zeros(()))


@torch.no_grad()
def exact(teacher: Two, student: Two, share: Share) -> tuple[float, float]:
    """The KL of the codes as the mean of the logarithm of their densities' ratio, and its standard error."""
    drawn = teacher.trace_inference(Y.expand(ROWS, 1))
    units, volume = in_units(teacher, drawn.values, share)
    ratio = drawn.log_prob() + volume
    y = {"y": Y.expand(ROWS, 1)}
    run = student.trace(noise=units, values=y) if share == "noise" else student.trace(values=units | y)
    code = {name: run[name].kept_value() for name in units}
    _, volume = in_units(student, code, share)
    ratio = ratio - student.trace_inference(Y.expand(ROWS, 1), values=code).log_prob() - volume
    return ratio.mean().item(), ratio.std().item() / ROWS**0.5


@pytest.mark.parametrize(
    ("bottom_up", "share", "equal"),
    [(False, "noise", True), (False, "values", True), (True, "values", True), (True, "noise", False)],
)
def test_the_sum_is_the_kl_where_the_prior_of_each_latent_is_known(bottom_up: bool, share: Share, equal: bool) -> None:
    torch.manual_seed(0)
    teacher, student = Two(bottom_up), Two(bottom_up)
    with torch.no_grad():
        terms = surrogate(0.0, posterior_weight=1.0, share=share)(teacher, student, batch_size=ROWS).terms
    value, error = exact(teacher, student, share)
    found = terms["z1|y"].item() + terms["z2|y"].item()
    assert (abs(found - value) < 5 * error) == equal
