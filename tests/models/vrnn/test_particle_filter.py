"""The particle filter against likelihoods that are known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from limbeck.core.trace import Kind
from limbeck.errors import ModelError
from limbeck.models import VRNN
from limbeck.models.vrnn.particle_filter import _systematic
from tests.models.vrnn.small_vrnns import built, drawings


def ignoring() -> VRNN:
    """A model whose drawings do not depend on z, so that every particle knows the exact likelihood."""
    model = built(steps=4)
    with torch.no_grad():
        for parameter in model.embed_z.parameters():
            parameter.zero_()
    return model


@pytest.mark.parametrize("proposal", ["prior", "posterior"])
def test_exact_where_the_latent_is_ignored(proposal: str) -> None:
    model, y = ignoring(), drawings(8, 4)
    trace = model.trace(8, values=model.split_targets(y))
    exact = trace.log_prob(Kind.TARGET)
    many = model.log_likelihood(y, particles=16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(many, exact, rtol=1e-9, atol=1e-9)
    # The encoder's proposals are weighted by p(z) / q(z), whose mean is 1 but which varies.
    found = model.log_likelihood(y, particles=4000, proposal=proposal, generator=torch.Generator().manual_seed(0))
    assert (found - exact).abs().max() < 0.3


class Independent(VRNN):
    """z ~ N(m, s^2) of two numbers, the offset N(A relu-free z + b, L L'), no memory: every step's law is Gaussian."""

    def __init__(self) -> None:
        super().__init__(steps=3, width=2, features=2, latent_size=2, ends=False)
        self.embed_z = nn.Linear(2, 2)
        self.decoder = nn.Linear(4, 6)
        self.double()
        with torch.no_grad():
            self.decoder.weight[0].zero_()  # the pen does not depend on z
            self.decoder.weight[3:].zero_()  # nor does the covariance
            for parameter in self.lstm.parameters():
                parameter.zero_()  # h stays 0

    def exact(self, y: Tensor) -> Tensor:
        mean, raw = self.prior(torch.zeros(2).double()).chunk(2)
        spread = torch.diag(nn.functional.softplus(raw) / math.log(2.0) + 1e-6)
        matrix = self.decoder.weight[1:3, :2] @ self.embed_z.weight
        bias = self.decoder.weight[1:3, :2] @ self.embed_z.bias + self.decoder.bias[1:3]
        raw, lower = self.decoder.bias[3:5], self.decoder.bias[5]
        tril = torch.diag(nn.functional.softplus(raw) / math.log(2.0) + self.floor)
        tril[1, 0] = lower
        law = MultivariateNormal(matrix @ mean + bias, matrix @ spread @ spread @ matrix.T + tril @ tril.T)
        pen = -nn.functional.softplus(torch.where(y[..., 2] > 0, -1.0, 1.0) * self.decoder.bias[0])
        return (law.log_prob(y[..., :2]) + pen).sum(1)


def test_linear_gaussian_steps() -> None:
    torch.manual_seed(3)
    model = Independent()
    with torch.no_grad():
        model.decoder.weight.mul_(2.0)
        model.decoder.bias[3:5] -= 1.0
        y = model.join_targets(model.sample(40))
        exact = model.exact(y)
        few, many = (
            model.log_likelihood(y, particles=k, generator=torch.Generator().manual_seed(0)) for k in (4, 4000)
        )
    assert (many - exact).abs().max() < 0.25
    assert abs((many - exact).mean()) < 0.02
    assert few.mean() < exact.mean()  # a lower bound, and with few particles a loose one


def test_memory_is_carried_by_the_right_particles() -> None:
    """A model with memory, where no exact value is known: many particles agree with plain importance sampling."""
    model, y = built(steps=3), drawings(4)
    generator = torch.Generator().manual_seed(0)
    many = model.log_likelihood(y, particles=20_000, generator=generator)
    values = model.split_targets(y.repeat_interleave(20_000, 0))
    with torch.no_grad():
        weights = model.trace(80_000, values=values, generator=generator).log_prob(Kind.TARGET)
    plain = torch.logsumexp(weights.view(4, -1), 1) - math.log(20_000)
    assert (many - plain).abs().max() < 0.1


def test_the_order_of_rows_does_not_matter() -> None:
    model, y = ignoring(), drawings(8, 4)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    whole = model.log_likelihood(y, particles=4)
    torch.testing.assert_close(model.log_likelihood(y[order], particles=4), whole[order])
    torch.testing.assert_close(model.log_likelihood(y[:1, :1], particles=4), whole[:1])


def test_systematic_resampling_is_unbiased_and_even() -> None:
    weight = torch.tensor([[0.5, 0.3, 0.2, 0.0]]).double().expand(20_000, 4)
    counts = nn.functional.one_hot(_systematic(weight, torch.Generator().manual_seed(0)), 4).double().sum(1)
    torch.testing.assert_close(counts.mean(0), 4 * weight[0], atol=0.02, rtol=0.0)
    assert ((counts - 4 * weight).abs() < 1).all()


def test_refusals() -> None:
    for wrong, told in (({"particles": 0}, "at least 1, not 0"), ({"proposal": "best"}, "prior or posterior, not")):
        with pytest.raises(ModelError, match=told):
            built().log_likelihood(drawings(), **wrong)
