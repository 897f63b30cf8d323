"""Wide residual networks WRN-depth-width (Zagoruyko & Komodakis 2016), the networks of [V] Tables 1 and 2."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from limbeck.errors import ModelError
from limbeck.models.networks.base import ImageNetwork, check_dropout, convolution, he_initialise
from limbeck.models.sizes import check_positive

__all__ = ["WideResNet"]

_CHANNELS = 16  # of the first convolution, and of the first group at width 1 (their Table 1)


class WideResNet(ImageNetwork):
    """Three groups of (depth - 4) / 6 pre-activation blocks at full, half and a quarter of the images' size.

    Batch norm and ReLU come before each of a block's two convolutions; where the number of channels changes, the
    shortcut is a 1x1 convolution of the activated input. The features are the first convolution and the ends of the
    groups, before the batch norm and ReLU that follow. Images may have any size, also odd ones: halves round up.

    Args:
        depth: 6 n + 4 for n blocks a group: 10, 16, 22, 28, 34, 40, ...
        width: k, the multiple of the groups' 16, 32 and 64 channels.
        classes: number of classes.
        channels: of the images: 1 for grey, 3 for colour.
        dropout: share of the units dropped between a block's convolutions, in training.

    Raises:
        ModelError: there is no such depth, a size is not positive, or dropout is no share below 1.

    Example:
        >>> import torch
        >>> network = WideResNet(depth=16, width=1)
        >>> sum(parameter.numel() for parameter in network.parameters())
        175066
        >>> network(torch.zeros(2, 3, 32, 32)).shape, network.feature_paths
        (torch.Size([2, 10]), ('first', 'groups.0', 'groups.1', 'groups.2'))

    References:
        Zagoruyko, Komodakis, Wide Residual Networks, BMVC 2016.
    """

    def __init__(self, depth: int, width: int, classes: int = 10, channels: int = 3, dropout: float = 0.0) -> None:
        super().__init__(classes, channels)
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ModelError(f"WideResNet: depth is 6 n + 4 (10, 16, 22, 28, 34, 40, ...), not {depth}")
        check_positive(self, width=width)
        check_dropout(self, dropout)
        self.first = convolution(channels, _CHANNELS)
        before = _CHANNELS
        self.groups = nn.ModuleList()
        for index in range(3):
            after = _CHANNELS * width * 2**index
            stride = 1 if index == 0 else 2
            self.groups.append(
                nn.Sequential(
                    _Block(before, after, stride, dropout),
                    *(_Block(after, after, 1, dropout) for _ in range(blocks - 1)),
                )
            )
            before = after
        self.norm = nn.BatchNorm2d(before)
        self.head = nn.Linear(before, classes)
        self.feature_paths = ("first", *(f"groups.{index}" for index in range(3)))
        he_initialise(self, linear=(self.head,))

    @override
    def classify(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for group in self.groups:
            h = group(h)
        logits: Tensor = self.head(F.relu(self.norm(h)).mean((2, 3)))
        return logits


class _Block(nn.Module):
    """Batch norm, ReLU, convolution, twice; and what was given, or a projection of it, is added."""

    def __init__(self, before: int, after: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = convolution(before, after, stride=stride)
        self.norm2 = nn.BatchNorm2d(after)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = convolution(after, after)
        self.shortcut = None if before == after else convolution(before, after, size=1, stride=stride)

    @override
    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(x))
        kept = x if self.shortcut is None else self.shortcut(h)
        h = self.dropout(F.relu(self.norm2(self.conv1(h))))
        total: Tensor = kept + self.conv2(h)
        return total
