"""Means of laws, and laws that have none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Cauchy,
    Distribution,
    Independent,
    LogNormal,
    MixtureSameFamily,
    Normal,
    TanhTransform,
    TransformedDistribution,
)

import limbeck
from limbeck.core.expectation import mean
from limbeck.errors import ModelError


class Single(limbeck.DGM):
    def __init__(self, law: Distribution) -> None:
        super().__init__()
        self.law = law

    def generate(self, sites: limbeck.Sites, x: Tensor | None = None) -> None:
        sites.target("y", self.law)


def test_means() -> None:
    zeros = torch.zeros(2, 3)
    assert torch.equal(mean(Independent(LogNormal(zeros, 1.0), 1)), torch.full((2, 3), 0.5).exp())
    assert torch.equal(mean(Independent(Categorical(logits=zeros[:, None]), 1)), torch.full((2, 1, 3), 1 / 3))


@pytest.mark.parametrize("shape", [(2, 4), (4,)])
def test_means_of_mixtures(shape: tuple[int, ...]) -> None:
    """Torch's own is NaN where the parts are categorical."""
    weights = Categorical(torch.rand(shape))
    vectors = MixtureSameFamily(weights, Independent(Normal(torch.randn(2, 4, 3), 1.0), 1))
    torch.testing.assert_close(mean(vectors), vectors.mean)
    classes = MixtureSameFamily(weights, Categorical(logits=torch.randn(2, 4, 5)))
    expected = torch.stack([classes.log_prob(torch.full((2,), value)).exp() for value in range(5)], 1)
    torch.testing.assert_close(mean(classes), expected)


@pytest.mark.parametrize(
    ("law", "name"),
    [
        (TransformedDistribution(Normal(torch.zeros(2, 3), 1.0), [TanhTransform()]), "TransformedDistribution"),
        (Independent(Cauchy(torch.zeros(2, 3), 1.0), 1), "Cauchy"),
        (MixtureSameFamily(Categorical(torch.ones(2, 3)), Cauchy(torch.zeros(2, 3), 1.0)), "Cauchy"),
    ],
)
def test_a_law_without_a_mean_is_told(law: Distribution, name: str) -> None:
    """Torch raises an error without words for the first, and returns NaN for the second."""
    model = Single(law)
    assert model.sample(2)["y"].isfinite().all()
    with pytest.raises(ModelError, match=f"a {name} has no mean, .*output='sample'"):
        model.sample(2, output="mean")
