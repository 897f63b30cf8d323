"""MLP-h, the student without convolutions of [V] Sec. 3.3 and Table 4."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from typing_extensions import override

from limbeck.errors import ModelError
from limbeck.models.networks.base import ImageNetwork, check_dropout, he_initialise
from limbeck.models.sizes import check_at_least

__all__ = ["MLP"]

_BOTTLENECKS = 3
_NARROWER = 4  # the inside of a bottleneck layer has h / 4 units


class MLP(ImageNetwork):
    """A linear layer, three bottleneck linear layers and a linear layer; all hidden layers have ``hidden`` units.

    As in [V] App. A.1: a bottleneck layer is two linear layers, h -> h / 4 -> h, with nothing between them, which saves
    parameters. Batch norm, ReLU and dropout, in this order, follow each layer but the last; the paper names dropout
    first. The features are the four hidden layers after their ReLU and before dropout, shape (batch, hidden). Layers
    before a batch norm have no bias.

    Args:
        hidden: h, a multiple of 4.
        classes: number of classes.
        image_size: height and width of the images in pixels.
        channels: of the images: 1 for grey, 3 for colour.
        dropout: share of the hidden units that are dropped in training.

    Raises:
        ModelError: ``hidden`` is no multiple of 4, a size is not positive, or dropout is no share below 1.

    Example:
        >>> import torch
        >>> network = MLP(hidden=64, image_size=8, channels=1)
        >>> network(torch.zeros(2, 1, 8, 8)).shape, network.feature_paths[0]
        (torch.Size([2, 10]), 'layers.0.relu')
    """

    def __init__(
        self, hidden: int, classes: int = 10, image_size: int = 32, channels: int = 3, dropout: float = 0.2
    ) -> None:
        super().__init__(classes, channels, exactly=image_size)
        check_at_least(self, _NARROWER, hidden=hidden)
        if hidden % _NARROWER:
            raise ModelError(f"MLP: hidden must be a multiple of {_NARROWER}, not {hidden}")
        check_dropout(self, dropout)
        inner = hidden // _NARROWER
        first = nn.Linear(channels * image_size**2, hidden, bias=False)
        narrow = tuple(nn.Linear(hidden, inner, bias=False) for _ in range(_BOTTLENECKS))
        bottlenecks = [nn.Sequential(layer, nn.Linear(inner, hidden, bias=False)) for layer in narrow]
        self.layers = nn.Sequential(*(_layer(linear, hidden, dropout) for linear in (first, *bottlenecks)))
        self.head = nn.Linear(hidden, classes)
        self.feature_paths = tuple(f"layers.{index}.relu" for index in range(len(self.layers)))
        he_initialise(self, linear=(*narrow, self.head))

    @override
    def classify(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(x.flatten(1)))
        return logits


def _layer(linear: nn.Module, hidden: int, dropout: float) -> nn.Sequential:
    parts = {
        "linear": linear, "norm": nn.BatchNorm1d(hidden), "relu": nn.ReLU(), "dropout": nn.Dropout(dropout),
    }  # fmt: skip
    return nn.Sequential(OrderedDict(parts))
