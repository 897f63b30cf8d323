"""Models in half precision whose latents share noise though their families differ: finer noise, values in half."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as D

import limbeck
from limbeck.core.reparam import Law, convert
from limbeck.core.reparam.noise import temper

LAWS: dict[str, Callable[[Tensor], D.Distribution]] = {
    "normal": lambda p: D.Normal(p, 1.0),
    "vector": lambda p: D.MultivariateNormal(p, scale_tril=torch.eye(3, dtype=p.dtype), validate_args=False),
    "laplace": lambda p: D.Laplace(p, 1.0),
    "half-normal": lambda p: D.HalfNormal(p.exp()),
    "bits": lambda p: D.Bernoulli(logits=p),
    "counts": lambda p: D.Poisson(p.exp()),
    "one-hot": lambda p: D.OneHotCategorical(logits=p),
}


class Half(limbeck.DGM):
    """A latent of some family, and a layer that takes values in half precision only."""

    def __init__(self, law: Callable[[Tensor], D.Distribution]) -> None:
        super().__init__()
        self.law = law
        self.parameters_of_z = nn.Parameter(torch.zeros(3))
        self.layer = nn.Linear(3, 2)
        self.bfloat16()

    def generate(self, sites: limbeck.Sites, x: Tensor | None = None) -> None:
        z = sites.latent("z", self.law(self.parameters_of_z.expand(sites.batch_size, 3)))
        sites.target("y", D.Normal(self.layer(z), 1.0))


@pytest.mark.parametrize(("one", "other"), itertools.product(LAWS, LAWS))
def test_noise_of_one_family_serves_another(one: str, other: str) -> None:
    run = Half(LAWS[one]).trace(20)
    shared = Half(LAWS[other]).trace(noise=run.noise, laws=run.laws)
    for trace in (run, shared):
        assert trace["z"].kept_value().dtype is torch.bfloat16
        assert trace["z"].kept_value().isfinite().all()


@pytest.mark.parametrize("family", sorted(set(LAWS) - {"vector"}))
def test_it_can_be_sampled_at_a_temperature(family: str) -> None:
    assert Half(LAWS[family]).sample(4, temperature=0.5)["y"].isfinite().all()


def test_conversion_is_that_of_the_same_numbers_in_single_precision() -> None:
    """Torch has no quantiles in half precision, and a uniform number next to 1 would round to it."""
    noise = torch.tensor([0.004, 0.5, 0.996]).bfloat16()
    for source, target in itertools.permutations((Law.UNIFORM, Law.REVERSED, Law.NORMAL, Law.GUMBEL), 2):
        assert torch.equal(convert(noise, source, target), convert(noise.float(), source, target))
    assert torch.equal(temper(noise, Law.UNIFORM, 0.5), temper(noise.float(), Law.UNIFORM, 0.5))
