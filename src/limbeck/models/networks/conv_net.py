"""A plain convolutional network of any width and depth, for images too small for the others, such as 8x8 digits."""

from __future__ import annotations

import itertools
from collections import OrderedDict

from torch import Tensor, nn
from typing_extensions import override

from limbeck.errors import ModelError
from limbeck.models.networks.base import ImageNetwork, convolution, he_initialise
from limbeck.models.sizes import check_positive

__all__ = ["ConvNet"]


class ConvNet(ImageNetwork):
    """Blocks of a 3x3 convolution, batch norm and ReLU; global average; a linear layer. The features are the blocks.

    Args:
        widths: channels of each block.
        classes: number of classes.
        channels: of the images: 1 for grey, 3 for colour.
        halved: blocks, counted from 0, before which a 2x2 max-pooling halves the size and rounds down; by default all
            but the first.

    Raises:
        ModelError: there is no block, a size is not positive, or a block to halve does not exist.

    Example:
        >>> import torch
        >>> network = ConvNet(widths=[16, 16, 32, 32], channels=1, halved=[2])  # two blocks at 8, two at 4 pixels
        >>> network(torch.zeros(2, 1, 8, 8)).shape, network.feature_paths
        (torch.Size([2, 10]), ('blocks.0', 'blocks.1', 'blocks.2', 'blocks.3'))
    """

    def __init__(
        self, widths: list[int], classes: int = 10, channels: int = 3, halved: list[int] | None = None
    ) -> None:
        halved = list(range(1, len(widths))) if halved is None else halved
        super().__init__(classes, channels, smallest=2 ** len(halved))
        if not widths:
            raise ModelError("ConvNet: widths must name at least one block, but is empty")
        for index, width in enumerate(widths):
            check_positive(self, **{f"widths[{index}]": width})
        if len(set(halved)) < len(halved) or not set(halved) <= set(range(len(widths))):
            raise ModelError(f"ConvNet: halved must name different blocks from 0 to {len(widths) - 1}, but is {halved}")
        self.blocks = nn.Sequential(
            *(
                _block(before, after, index in halved)
                for index, (before, after) in enumerate(itertools.pairwise((channels, *widths)))
            )
        )
        self.head = nn.Linear(widths[-1], classes)
        self.feature_paths = tuple(f"blocks.{index}" for index in range(len(widths)))
        he_initialise(self, linear=(self.head,))

    @override
    def classify(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(x).mean((2, 3)))
        return logits


def _block(before: int, after: int, halves: bool) -> nn.Sequential:
    parts: dict[str, nn.Module] = {"pool": nn.MaxPool2d(2)} if halves else {}
    parts |= {"conv": convolution(before, after), "norm": nn.BatchNorm2d(after), "relu": nn.ReLU()}
    return nn.Sequential(OrderedDict(parts))
