"""Running moments of a feature are those of all that was seen."""

from __future__ import annotations

import torch
from torch.distributions import Normal

from limbeck.core.divergence.moments import Moments
from tests.core.divergence.observed_features import CLOSE
from tests.features import normal


def test_moments_are_those_of_all_that_was_seen() -> None:
    moments = Moments(3).double()
    batches = [5.0 + 3.0 * normal(((4, 3),), seed, 2 + seed)[0] for seed in range(4)]
    for batch in batches:
        moments(batch)
    seen = torch.cat([batch.flatten(0, 1) for batch in batches])
    torch.testing.assert_close(moments.mean, seen.mean(0), **CLOSE)
    torch.testing.assert_close(moments.variance, seen.var(0, correction=0), **CLOSE)
    moments.eval()
    expected = -Normal(moments.mean, moments.variance.sqrt()).log_prob(batches[0]).sum(2).mean()
    torch.testing.assert_close(moments(batches[0]), expected, **CLOSE)
    torch.testing.assert_close(moments.mean, seen.mean(0), **CLOSE)


def test_moments_count_on_in_half_precision() -> None:
    moments = Moments(1).to(torch.bfloat16)
    for value in [0.0] * 300 + [1.0] * 300:
        moments(torch.full((1, 1, 1), value))
    assert moments.rows == 600
    torch.testing.assert_close(moments.mean, torch.tensor([0.5]))
    assert moments.to("meta").mean.device.type == "meta"
