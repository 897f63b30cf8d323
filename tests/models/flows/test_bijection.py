"""Standardised columns: likelihoods stay in the units of the data."""

from __future__ import annotations

import torch
from torch.distributions import Normal

from limbeck.core.loss import Batch
from limbeck.models import TableGlow, ZukoFlow
from limbeck.models.flows.bijection import Standardize


def test_standardising_keeps_likelihoods_in_the_units_of_the_data() -> None:
    y = torch.tensor([100.0, -3.0]) + torch.tensor([50.0, 0.1]) * torch.randn(4000, 2)
    flow = ZukoFlow("MAF", 2, standardize=True, transforms=1)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.zero_()
    flow.adapt(Batch(y))
    best = Normal(y.mean(0), y.std(0, correction=0)).log_prob(y).sum(1)
    torch.testing.assert_close(flow.log_prob(y), best, atol=1e-3, rtol=1e-4)


def test_a_constant_column_keeps_its_scale() -> None:
    y = torch.stack([torch.full((30,), 7.0), torch.linspace(0.0, 1.0, 30)], 1)
    step = Standardize(2)
    step.adapt(y)
    assert step.scale[0] == 1.0
    for flow in (TableGlow(2), TableGlow(2, standardize=False)):
        flow.adapt(Batch(y))
        assert torch.isfinite(flow.log_prob(y)).all()
        assert torch.isfinite(flow.sample(4)["y"]).all()
