"""Running moments of a feature are those of all that was seen."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from limbeck.core.divergence.moments import Moments
from tests.core.divergence.observed_features import CLOSE
from tests.features import normal


def score(moments: Moments, batch: Tensor) -> Tensor:
    return -Normal(moments.mean, moments.variance.sqrt()).log_prob(batch).sum(2).mean()


def test_moments_are_those_of_all_that_was_seen() -> None:
    moments = Moments(3).double()
    batches = [5.0 + 3.0 * normal(((4, 3),), seed, 2 + seed)[0] for seed in range(4)]
    for batch in batches:
        found = moments(batch.clone().requires_grad_())
        assert not found.requires_grad
        torch.testing.assert_close(found, score(moments, batch), **CLOSE)  # under the Gaussian with the batch in it
    seen = torch.cat([batch.flatten(0, 1) for batch in batches])
    torch.testing.assert_close(moments.mean, seen.mean(0), **CLOSE)
    torch.testing.assert_close(moments.variance, seen.var(0, correction=0), **CLOSE)
    moments.eval()
    torch.testing.assert_close(moments(batches[0]), score(moments, batches[0]), **CLOSE)
    torch.testing.assert_close(moments.mean, seen.mean(0), **CLOSE)


def test_a_channel_that_never_changes_has_the_least_variance() -> None:
    moments = Moments(1, minimum_variance=0.25)
    found = [moments(torch.full((4, 1, 1), 1e3 / 3)) for _ in range(2)]
    least = 0.5 * math.log(2 * math.pi * 0.25)
    assert found[-1].item() == pytest.approx(least, abs=1e-5)
    moments = Moments(1, minimum_variance=0.25)  # and where the difference of the sums rounds to below 0
    assert moments(torch.full((7, 1, 1), 12345.678)).item() > least - 1e-5
    assert moments.variance >= 0.0


def test_moments_count_on_in_half_precision() -> None:
    moments = Moments(1).to(torch.bfloat16)
    for value in [0.0] * 300 + [1.0] * 300:
        moments(torch.full((1, 1, 1), value))
    assert moments.rows == 600
    torch.testing.assert_close(moments.mean, torch.tensor([0.5]))
    assert moments.to("meta").mean.device.type == "meta"
