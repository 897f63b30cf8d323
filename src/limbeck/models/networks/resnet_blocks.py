"""Blocks of residual networks: what is added to the input (He et al. 2016a, 2016b)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from limbeck.models.networks.base import convolution

__all__ = ["Basic", "Bottleneck"]


class Basic(nn.Module):
    """Two 3x3 convolutions, ReLU after the sum (He et al. 2016a, Fig. 5 left).

    Args:
        before: channels of the input.
        after: channels of the output.
        stride: by which the size is divided.
        projects: whether a shortcut between unequal shapes is a 1x1 convolution with batch norm (option B of Sec. 3.3)
            or every stride-th pixel, with channels of zeros added (option A).
    """

    def __init__(self, before: int, after: int, stride: int, projects: bool = False) -> None:
        super().__init__()
        self.conv1 = convolution(before, after, stride=stride)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = convolution(after, after)
        self.bn2 = nn.BatchNorm2d(after)
        self.stride = stride
        self.more = after - before
        self.downsample: nn.Module | None = None
        if projects and (self.more or stride > 1):
            self.downsample = nn.Sequential(convolution(before, after, size=1, stride=stride), nn.BatchNorm2d(after))

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, before, height, width) to (batch, after, height / stride, width / stride), rounded up."""
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.downsample is not None:
            x = self.downsample(x)
        elif self.more:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(x + h)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each after batch norm and ReLU (He et al. 2016b, Fig. 4 e and its appendix).

    Where the number of channels changes, the shortcut is a 1x1 convolution of the activated input. It is the 3x3
    convolution that reduces the size.

    Args:
        before: channels of the input.
        inner: channels of the 3x3 convolution; the output has four times as many.
        stride: by which the size is divided.
    """

    expansion: ClassVar[int] = 4

    def __init__(self, before: int, inner: int, stride: int) -> None:
        super().__init__()
        after = inner * self.expansion
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = convolution(before, inner, size=1)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = convolution(inner, inner, stride=stride)
        self.bn3 = nn.BatchNorm2d(inner)
        self.conv3 = convolution(inner, after, size=1)
        self.downsample = None if before == after else convolution(before, after, size=1, stride=stride)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, before, height, width) to (batch, 4 inner, height / stride, width / stride), rounded up."""
        h = F.relu(self.bn1(x))
        kept = x if self.downsample is None else self.downsample(h)
        h = self.conv2(F.relu(self.bn2(self.conv1(h))))
        total: Tensor = kept + self.conv3(F.relu(self.bn3(h)))
        return total
