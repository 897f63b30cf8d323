"""The importance-weighted bound, where its limit is known, and where there is none."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from limbeck.core.bounds import importance_weighted_bound
from limbeck.core.graph import DGM
from limbeck.errors import ModelError, SiteError
from tests.zoo import BY_NAME


class Shifted(DGM):
    """z ~ N(0, 1), y ~ N(z, 1), and a posterior that is wider than the exact N(y / 2, 1 / 2)."""

    def __init__(self, variance: float = 1.0) -> None:
        super().__init__()
        self.variance = variance

    def generate(self, sites, x=None):
        z = sites.latent("z", sites.standard_normal(2))
        sites.target("y", Normal(z, 1.0))

    def infer(self, sites, y, x=None):
        sites.latent("z", Normal(y / 2, self.variance**0.5))


def test_it_rises_to_the_log_likelihood_and_takes_no_other_random_numbers() -> None:
    y = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    exact = Normal(0.0, 2.0**0.5).log_prob(y).sum(1)
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(importance_weighted_bound(Shifted(0.5), y, generator=generator), exact)
    many = importance_weighted_bound(Shifted(), y, samples=2000, generator=generator)
    torch.testing.assert_close(many, exact, atol=0.1, rtol=0)
    assert torch.equal(state, torch.get_rng_state())


def test_it_needs_a_draw() -> None:
    with pytest.raises(ModelError, match="at least one posterior draw a row, not 0"):
        importance_weighted_bound(Shifted(), torch.zeros(2, 2), samples=0)


def test_a_latent_that_is_only_inferred_would_make_it_no_bound() -> None:
    class Extra(Shifted):
        def infer(self, sites, y, x=None):
            sites.latent("z", Normal(y / 2, self.variance**0.5))
            sites.latent("a", Normal(torch.zeros_like(y), 10.0))

    with pytest.raises(SiteError, match=r"Extra.infer declares a, which generate does not have"):
        importance_weighted_bound(Extra(), torch.zeros(2, 2))


@pytest.mark.parametrize("name", ["flow", "images' flow", "autoregressive flow"])
def test_a_point_mass_has_no_bound(name: str) -> None:
    entry = BY_NAME[name]
    with pytest.raises(ModelError, match=r"target 'y' is a point mass.*log_prob"):
        importance_weighted_bound(entry.pair()[0], entry.data(3).y)
