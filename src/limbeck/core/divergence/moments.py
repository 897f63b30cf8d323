"""Running mean and variance of each channel, over all batches so far."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.precision import Precise

__all__ = ["Moments"]


class Moments(Precise):
    """The best Gaussian with one mean and one variance per channel, as estimated so far.

    Batches are merged by the rule of Chan et al. (1979): every row has the same weight, whatever their order. The
    buffers are saved and move with the module, but never below single precision.

    Args:
        channels: of the feature.
        minimum_variance: lower limit of the variances in the result, for channels that never change; the variances
            that are kept have no limit.
    """

    def __init__(self, channels: int, minimum_variance: float = 1e-5) -> None:
        super().__init__()
        self.minimum_variance = minimum_variance
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.zeros(channels))
        self.register_buffer("rows", torch.zeros(()))
        self.mean: Tensor
        self.variance: Tensor
        self.rows: Tensor

    @torch.no_grad()
    @override
    def forward(self, feature: Tensor) -> Tensor:
        """In training, merge a batch; then score it.

        Args:
            feature: shape (batch, positions, channels), in the precision of the buffers.

        Returns:
            Mean negative log density of the batch's elements under the Gaussian as it is now, summed over channels, in
            nats; shape ().
        """
        # Centred at what is known, so that the difference of the two sums does not cancel; var_mean is much slower.
        centred = feature.flatten(0, 1) - self.mean
        shift = centred.mean(0)
        variance = (centred.square().mean(0) - shift.square()).clamp_min(0.0)
        if self.training:
            mean, rows = self.mean + shift, self.rows + len(feature)
            share = len(feature) / rows
            self.variance.lerp_(variance, share).add_(share * (1.0 - share) * shift.square())
            self.mean.lerp_(mean, share)
            self.rows.copy_(rows)
            shift = mean - self.mean
        known = self.variance.clamp_min(self.minimum_variance)
        spread = variance + shift.square()
        return 0.5 * ((2.0 * math.pi * known).log() + spread / known).sum()
