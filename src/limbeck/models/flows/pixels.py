"""Pixel values on their way into a flow: noise for what is discrete, a change of scale, and fewer of more channels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from limbeck.core.reparam import Law
from limbeck.core.reparam.noise import draw
from limbeck.models.flows.bijection import Bijection

__all__ = ["Pixels", "Squeeze", "dequantized"]


def dequantized(y: Tensor, levels: int, generator: torch.Generator | None = None) -> Tensor:
    """Uniform noise in the cells of discrete values, so that a density can describe them (Theis et al. 2016, Sec. 3.1).

    Args:
        y: any shape; values k / (levels - 1) in [0, 1].
        levels: number of values.
        generator: source of noise.

    Returns:
        (k + noise) / levels in [0, 1], a new tensor of the same shape.
    """
    noise = draw(Law.UNIFORM, y.shape, y, generator)
    return (y * (levels - 1) + noise) / levels


class Pixels(Bijection):
    """Values in [0, 1] centred at 0, or onto the whole line.

    Args:
        alpha: 0 subtracts one half; above 0 it is logit(alpha + (1 - 2 alpha) y), which keeps off both ends, as in
            Papamakarios et al. 2017 (Dinh et al. 2017, Sec. 4.1, have 1 - alpha, which keeps off 0 alone).
    """

    def __init__(self, alpha: float = 0.0) -> None:
        super().__init__()
        self.alpha = alpha

    @override
    def forward(self, h: Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if not self.alpha:
            return h - 0.5, h.new_zeros(())
        z = torch.logit(self.alpha + (1.0 - 2.0 * self.alpha) * h)
        slope = math.log(1.0 - 2.0 * self.alpha)
        return z, (slope + F.softplus(z) + F.softplus(-z)).flatten(1).sum(1)

    @override
    def inverse(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        if not self.alpha:
            return h + 0.5
        return (torch.sigmoid(h) - self.alpha) / (1.0 - 2.0 * self.alpha)


class Squeeze(Bijection):
    """Each block of 2x2 pixels becomes one pixel of four times the channels (Dinh et al. 2017, Sec. 3.6)."""

    @override
    def forward(self, h: Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_unshuffle(h, 2), h.new_zeros(())

    @override
    def inverse(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        return F.pixel_shuffle(h, 2)
