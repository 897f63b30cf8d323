"""Arithmetic in no less precision than a result needs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

import limbeck
from limbeck import methods
from limbeck.core.delta import Delta
from limbeck.core.divergence import log_ratio, lp
from limbeck.core.precision import precise, product


def test_half_precision_is_raised_and_the_rest_stays_as_it_is() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        assert precise(torch.ones(2, dtype=dtype)).dtype is torch.float32
    for dtype in (torch.float32, torch.float64):
        feature = torch.ones(2, dtype=dtype)
        assert precise(feature) is feature


def test_a_product_is_not_rounded_under_autocast() -> None:
    a, b = torch.randn(4, 8), torch.randn(8, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (a @ b).dtype is torch.bfloat16
        found = product(a, b)
    assert torch.equal(found, a @ b)


class Wide(limbeck.DGM):
    """A latent that is worth little beside the sum over thousands of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3000)

    def generate(self, sites: limbeck.Sites, x: Tensor | None = None) -> None:
        z = sites.latent("z", sites.standard_normal(2))
        sites.target("y", Normal(self.layer(z), 0.3))


def test_sums_of_laws_in_half_precision_keep_their_digits() -> None:
    """Under autocast a network's output, and so the law that it tells, is in half precision."""
    torch.manual_seed(0)
    teacher, student = Wide(), Wide()
    noise, y = {"z": torch.randn(4, 2)}, torch.randn(4, 3000).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run = teacher.trace(noise=noise, values={"y": y})
        loss = methods.surrogate()(teacher, student, batch_size=4)
        density = run.log_prob()
    law = run["y"].kept_distribution()
    assert law.mean.dtype is torch.bfloat16
    assert loss.terms["y"].dtype is density.dtype is torch.float32
    own = run["z"].kept_distribution().log_prob(run["z"].kept_value()).sum(1)
    exact = own + law.log_prob(y).double().sum(1)
    assert density.tolist() == pytest.approx(exact.tolist(), rel=1e-5)


def test_a_sum_beyond_half_precision_is_finite() -> None:
    zeros, ones = (Delta(torch.full((1, 70_000), value, dtype=torch.float16)) for value in (0.0, 1.0))
    assert lp(zeros, ones).item() == 70_000.0


def test_densities_in_half_precision_have_differences_in_single() -> None:
    theirs, own = (Delta(torch.tensor([density], dtype=torch.bfloat16)) for density in (-200.0, -0.125))
    assert log_ratio(theirs, own).item() == -199.875
