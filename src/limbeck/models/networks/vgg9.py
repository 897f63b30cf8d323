"""VGG-9, the student of another architecture in the transfer experiments of [V] Sec. 3.2."""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from typing_extensions import override

from limbeck.models.networks.base import ImageNetwork, convolution, he_initialise

__all__ = ["VGG9"]

_CHANNELS = (64, 128, 256, 256, 512, 512, 512, 512)
_POOLED = (1, 2, 4, 6, 8)  # the ReLUs, counted from 1, that a max-pooling follows


class VGG9(ImageNetwork):
    """Eight 3x3 convolutions with batch norm and ReLU, five max-poolings, global average, one linear layer.

    As in [V] App. A.1. Each max-pooling halves the size and rounds down, so images need at least 32 pixels a side. The
    features are the last four max-poolings: the last two, ``h[2]`` and ``h[3]``, are those that [V] Sec. 3.2 matches,
    and have the size of the last two groups of a ResNet-34.

    Args:
        classes: number of classes.
        channels: of the images: 1 for grey, 3 for colour.

    Raises:
        ModelError: a size is not positive.

    Example:
        >>> import torch
        >>> VGG9(classes=67)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 67])
    """

    def __init__(self, classes: int = 10, channels: int = 3) -> None:
        super().__init__(classes, channels, smallest=2 ** len(_POOLED))
        layers: list[nn.Module] = []
        pools = []
        for number, (before, after) in enumerate(itertools.pairwise((channels, *_CHANNELS)), start=1):
            layers += [convolution(before, after), nn.BatchNorm2d(after), nn.ReLU()]
            if number in _POOLED:
                pools.append(f"body.{len(layers)}")
                layers.append(nn.MaxPool2d(2))
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(_CHANNELS[-1], classes)
        self.feature_paths = tuple(pools[1:])
        he_initialise(self, linear=(self.head,))

    @override
    def classify(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x).mean((2, 3)))
        return logits
