"""Mean and variance of each channel, over all that was seen so far."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from limbeck.core.divergence.features import precise

__all__ = ["Moments"]


class Moments(nn.Module):
    """The best Gaussian with one mean and one variance a channel, as known so far.

    Batches are merged as by Chan et al. (1979), so that nothing is forgotten and no order matters; the buffers are
    saved and move with the module, but in no less than single precision: counting rows in bfloat16 ends at 256.

    Args:
        channels: of the feature.
        minimum_variance: added nowhere, but the least that counts, for channels that never change.
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

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What moves and casts a module, of torch's."""

        def kept(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if precise(moved) is moved else precise(tensor.to(moved.device))

        super()._apply(kept, recurse)  # type: ignore[no-untyped-call]
        return self

    @torch.no_grad()
    def forward(self, feature: Tensor) -> Tensor:
        """Take a batch in, if in training, and score it.

        Args:
            feature: shape (batch, positions, channels), in the precision of the buffers.

        Returns:
            Mean negative log density of the batch's elements under the Gaussian so far, summed over channels, in nats;
            shape ().
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
