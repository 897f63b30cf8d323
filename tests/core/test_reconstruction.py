"""Encode and decode: every latent in the middle of its posterior."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical, Normal

from limbeck.core.graph import DGM
from limbeck.core.reconstruction import reconstruct
from limbeck.errors import ModelError, SiteError


class Mixed(DGM):
    """A Gaussian and a categorical latent; two targets that form one y."""

    forgets = False

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor([10.0, 20.0, 30.0]))

    def generate(self, sites, x=None):
        k = sites.latent("k", Categorical(logits=sites.zeros(3)))
        z = sites.latent("z", Normal(sites.zeros(), 1.0))
        sites.target("a", Normal(self.table[k], 1.0))
        sites.target("b", Normal(2.0 * z, 1.0))

    def infer(self, sites, y, x=None):
        sites.latent("k", Categorical(logits=-(y[:, :1] - self.table).abs()))
        if not self.forgets:
            sites.latent("z", Normal(y[:, 1] / 3.0, 5.0))

    def join_targets(self, targets):
        return torch.stack([targets["a"], targets["b"]], dim=1)

    def split_targets(self, y, x=None):
        return {"a": y[:, 0], "b": y[:, 1]}


def test_modes_and_means() -> None:
    y = torch.tensor([[19.0, 3.0], [31.0, -6.0]])
    expected = torch.tensor([[20.0, 2.0], [30.0, -4.0]])
    for _ in range(5):  # nothing is random
        torch.testing.assert_close(reconstruct(Mixed(), y), expected)


def test_a_target_is_rebuilt_given_those_before_it() -> None:
    class Dependent(Mixed):
        def generate(self, sites, x=None):
            k = sites.latent("k", Categorical(logits=sites.zeros(3)))
            z = sites.latent("z", Normal(sites.zeros(), 1.0))
            a = sites.target("a", Normal(self.table[k], 1.0))
            sites.target("b", Normal(a + z, 1.0))

    y = torch.tensor([[19.0, 3.0], [31.0, -6.0]])
    for _ in range(5):
        torch.testing.assert_close(reconstruct(Dependent(), y), torch.tensor([[20.0, 20.0], [30.0, 29.0]]))


def test_what_cannot_be_rebuilt_is_told() -> None:
    class Forgetful(Mixed):
        forgets = True

    with pytest.raises(SiteError, match=r"site 'z': no noise was given"):
        reconstruct(Forgetful(), torch.zeros(2, 2))

    class Blind(Mixed):
        infer = DGM.infer

    with pytest.raises(ModelError, match="no inference program"):
        reconstruct(Blind(), torch.zeros(2, 2))
