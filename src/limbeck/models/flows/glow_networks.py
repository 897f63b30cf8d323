"""The networks of Glow's couplings, for rows and for pixels; each gives 0 before it is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

__all__ = ["PixelNetwork", "RowNetwork", "ScaledConvolution"]


class RowNetwork(nn.Module):
    """A residual network of rows: what a coupling of tables asks for shifts and scales.

    Args:
        inputs: columns it sees.
        outputs: numbers it gives; all 0 at first.
        hidden: width.
        blocks: residual blocks of two layers each.
        activation: class of its units.
    """

    def __init__(
        self, inputs: int, outputs: int, hidden: int, blocks: int, activation: type[nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(activation(), nn.Linear(hidden, hidden), activation(), nn.Linear(hidden, hidden))
            for _ in range(blocks)
        )
        self.activation = activation()
        self.leave = nn.Linear(hidden, outputs)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    @override
    def forward(self, h: Tensor) -> Tensor:
        """Rows of shape (batch, inputs) to numbers of shape (batch, outputs)."""
        h = self.enter(h)
        for block in self.blocks:
            h = h + block(h)
        numbers: Tensor = self.leave(self.activation(h))
        return numbers


class PixelNetwork(nn.Sequential):
    """Three convolutions of 3x3, 1x1 and 3x3 pixels, the last one all 0 at first (Glow, Sec. 3.3).

    Args:
        inputs: channels it sees.
        outputs: channels it gives.
        hidden: channels in between.
        activation: class of its units.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__(
            nn.Conv2d(inputs, hidden, 3, padding=1),
            _unit(activation),
            nn.Conv2d(hidden, hidden, 1),
            _unit(activation),
            ScaledConvolution(hidden, outputs),
        )


class ScaledConvolution(nn.Conv2d):
    """A convolution of 3x3 pixels that starts at 0 and learns a factor a channel, so that it soon leaves it.

    Args:
        inputs: channels it sees.
        outputs: channels it gives.
    """

    _SPEED = 3.0  # of the factors' logarithms, as in Glow

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        nn.init.zeros_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
        self.log_factor = nn.Parameter(torch.zeros(outputs))

    @override
    def forward(self, h: Tensor) -> Tensor:
        """Shape (batch, inputs, height, width) to (batch, outputs, height, width)."""
        assert self.bias is not None
        factor = torch.exp(self._SPEED * self.log_factor)
        # On the weights rather than on the map: the same product, of far fewer numbers.
        return F.conv2d(h, self.weight * factor[:, None, None, None], self.bias * factor, padding=1)


def _unit(activation: type[nn.Module]) -> nn.Module:
    """A unit after a convolution, which does not look at its output again: a rectified one works in place."""
    return nn.ReLU(inplace=True) if activation is nn.ReLU else activation()
