"""What the networks share: the check of their input, He's initialisation, convolutions."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from typing_extensions import override

from limbeck.errors import ModelError
from limbeck.models.sizes import check_positive

__all__ = ["ImageNetwork", "check_dropout", "convolution", "he_initialise"]


class ImageNetwork(nn.Module, ABC):
    """A classifier of images that says which of its modules compute its features.

    Args:
        classes: number of classes.
        channels: of the images: 1 for grey, 3 for colour.
        smallest: the fewest pixels a side.
        exactly: the only height and width in pixels, where any other would not fit.

    Attributes:
        feature_paths: paths of the modules whose outputs are the hidden features, from the input to the head.
    """

    feature_paths: tuple[str, ...]

    def __init__(self, classes: int, channels: int, smallest: int = 1, exactly: int | None = None) -> None:
        super().__init__()
        check_positive(self, classes=classes, channels=channels)
        if exactly is not None:
            check_positive(self, image_size=exactly)
        self.classes = classes
        self.channels = channels
        self.smallest = smallest
        self.exactly = exactly

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Logits of images.

        Args:
            x: shape (batch, channels, height, width), floating point.

        Returns:
            Shape (batch, classes).

        Raises:
            ModelError: the images have another number of channels, or a size that the network cannot work on.
        """
        _check_images(x, type(self).__name__, self.channels, self.smallest, self.exactly)
        return self.classify(x)

    @abstractmethod
    def classify(self, x: Tensor) -> Tensor:
        """Logits, shape (batch, classes), of images that have been checked, (batch, channels, height, width)."""


@torch.fx.wrap
def _check_images(x: Tensor, who: str, channels: int, smallest: int, exactly: int | None) -> None:
    """Refuse images that do not fit; wrapped, so that symbolic tracing (as for folding batch norms) passes over it."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ModelError(
            f"{who} is built for images of shape (batch, {channels}, height, width), but got {tuple(x.shape)}; set "
            "channels of the network, or of the data"
        )
    height, width = x.shape[2:]
    if exactly is not None and not height == width == exactly:
        raise ModelError(
            f"{who} is built for images of {exactly}x{exactly} pixels, but got {height}x{width}; set image_size of the "
            "network, or size of the data"
        )
    if min(height, width) < smallest:
        raise ModelError(
            f"{who} halves its images until nothing is left of {height}x{width} pixels; it needs at least {smallest} a "
            "side: enlarge or pad the data (size), or choose a network that halves less often"
        )


def check_dropout(network: nn.Module, dropout: float) -> None:
    """Refuse a share of dropped units that is no share.

    Raises:
        ModelError: it is outside [0, 1).
    """
    if not 0 <= dropout < 1:
        raise ModelError(f"{type(network).__name__}: dropout is a share in [0, 1), not {dropout}")


def convolution(before: int, after: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size of its input, or divides it by ``stride`` and rounds up.

    It has no bias: in all of these networks a batch norm comes after it, at once or after a sum.
    """
    return nn.Conv2d(before, after, size, stride=stride, padding=size // 2, bias=False)


def he_initialise(network: nn.Module, linear: tuple[nn.Linear, ...] = ()) -> None:
    """Draw all weights so that variances stay the same from layer to layer (He et al. 2015, Sec. 2.2).

    Convolutions keep the variance of gradients (fan-out), as in the papers of the residual networks; linear layers that
    of activations (fan-in). Biases are 0; batch norms start as torch makes them, as the identity.

    Args:
        network: all its convolutions and linear layers are drawn anew.
        linear: those of the linear layers that no ReLU follows, which therefore do not double the variance.

    References:
        He et al., Delving Deep into Rectifiers, ICCV 2015.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            plain = any(module is layer for layer in linear)
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if plain else "relu")
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    # A step of a residual network then takes 0.77 to 0.93 of its time on a CPU; the first convolution makes its own
    # output channels last, whatever the images are.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
