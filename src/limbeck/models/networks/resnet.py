"""Residual networks (He et al. 2016a, 2016b): of depth 20 to 164 and more for small images, 18 and 34 for large."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from limbeck.errors import ModelError
from limbeck.models.networks.base import ImageNetwork, convolution, he_initialise
from limbeck.models.networks.resnet_blocks import Basic, Bottleneck

__all__ = ["ResNet"]

_LARGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # blocks a group (He et al. 2016a, Table 1)
_LARGE_WIDTH, _SMALL_WIDTH = 64, 16  # channels of the first group
# From this depth on, bottlenecks: 164 is the depth of He et al. 2016b, Table 4; 110 is the last plain one.
_BOTTLENECKS_FROM = 164


class ResNet(ImageNetwork):
    """Groups of residual blocks, each at half of the size and twice the channels of the one before.

    The depth decides the layout. 18 and 34 are for large images (He et al. 2016a, Table 1): a 7x7 convolution and a
    max-pooling quarter the size before four groups; modules have the names that are usual for it, so that weights
    trained on ImageNet, as torch's own collection of image models has them, can be loaded. 6 n + 2 (20, 32, 44, 56,
    110) are for small images (the same, Sec. 4.2): a 3x3 convolution, three groups, shortcuts without parameters.
    9 n + 2 from 164 on are the same with pre-activation bottlenecks of three convolutions (He et al. 2016b).

    The features are the ends of the groups and, where there are three, what enters the first. Images may have any size:
    halves round up.

    Args:
        depth: number of layers with weights, shortcuts not counted.
        classes: number of classes.
        channels: of the images: 1 for grey, 3 for colour.
        small_images: for depths 18 and 34: a 3x3 convolution without pooling first, as the other depths always have.

    Raises:
        ModelError: there is no such depth, or a size is not positive.

    Example:
        >>> import torch
        >>> network = ResNet(20)
        >>> sum(parameter.numel() for parameter in network.parameters())
        269722
        >>> network(torch.zeros(2, 3, 32, 32)).shape, network.feature_paths
        (torch.Size([2, 10]), ('relu', 'layer1', 'layer2', 'layer3'))

    References:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016 (2016a).
        He et al., Identity Mappings in Deep Residual Networks, ECCV 2016 (2016b).
    """

    def __init__(self, depth: int, classes: int = 10, channels: int = 3, small_images: bool = False) -> None:
        super().__init__(classes, channels)
        counts, bottleneck = _layout(depth)
        large = depth in _LARGE
        width = _LARGE_WIDTH if large else _SMALL_WIDTH
        reduces = large and not small_images
        self.conv1 = (
            nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False) if reduces else convolution(channels, width)
        )
        # Pre-activation blocks begin with the norm of their input and leave their sum as it is.
        self.bn1 = nn.Identity() if bottleneck else nn.BatchNorm2d(width)
        self.relu = nn.Identity() if bottleneck else nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if reduces else nn.Identity()
        before, groups = width, []
        for index, count in enumerate(counts):
            inner = width * 2**index
            stride = 1 if index == 0 else 2
            groups.append(f"layer{index + 1}")
            self.add_module(groups[-1], _group(before, inner, count, stride, bottleneck=bottleneck, projects=large))
            before = inner * (Bottleneck.expansion if bottleneck else 1)
        self.norm = nn.BatchNorm2d(before) if bottleneck else None
        self.fc = nn.Linear(before, classes)
        self.feature_paths = tuple(groups) if large else ("relu", *groups)
        self._groups = tuple(groups)
        he_initialise(self, linear=(self.fc,))

    @override
    def classify(self, x: Tensor) -> Tensor:
        h = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name in self._groups:
            h = getattr(self, name)(h)
        if self.norm is not None:
            h = F.relu(self.norm(h))
        logits: Tensor = self.fc(h.mean((2, 3)))
        return logits


def _layout(depth: int) -> tuple[tuple[int, ...], bool]:
    """Blocks a group, and whether they are bottlenecks."""
    if depth in _LARGE:
        return _LARGE[depth], False
    bottleneck = depth >= _BOTTLENECKS_FROM
    layers = 9 if bottleneck else 6  # in three groups, of blocks of three or two
    count, rest = divmod(depth - 2, layers)
    if rest or count < 1:
        near = ", ".join(str(layers * max(1, count + more) + 2) for more in (0, 1))
        raise ModelError(
            f"ResNet: depth is 18, 34, 6 n + 2 (20, 32, 44, 56, 110) or, from {_BOTTLENECKS_FROM} on, 9 n + 2, not "
            f"{depth}; near it are {near}"
        )
    return (count,) * 3, bottleneck


def _group(before: int, inner: int, count: int, stride: int, *, bottleneck: bool, projects: bool) -> nn.Sequential:
    """Blocks of one size."""
    if bottleneck:
        after = inner * Bottleneck.expansion
        following = (Bottleneck(after, inner, 1) for _ in range(count - 1))
        return nn.Sequential(Bottleneck(before, inner, stride), *following)
    return nn.Sequential(Basic(before, inner, stride, projects), *(Basic(inner, inner, 1) for _ in range(count - 1)))
