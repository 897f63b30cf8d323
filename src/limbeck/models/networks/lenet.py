"""LeNet-5 (LeCun et al. 1998), the architecture of [V] Table 5, with today's ReLUs and max-poolings."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from limbeck.errors import ModelError
from limbeck.models.networks.base import ImageNetwork, he_initialise
from limbeck.models.sizes import check_positive

__all__ = ["LeNet"]

_PADDING = {28: 2, 32: 0}  # so that the first convolution gives 28 pixels; LeNet-5 reads digits amid 32
_MAPS, _UNITS, _LAST_SIZE = (6, 16), (120, 84), 5


class LeNet(ImageNetwork):
    """Two 5x5 convolutions, each with ReLU and 2x2 max-pooling, two hidden linear layers and the classes.

    The features are both max-poolings, with 14 and 5 pixels a side, and both hidden layers after their ReLU.

    Args:
        classes: number of classes.
        image_size: height and width of the images in pixels: 28 (padded to 32 inside) or 32.
        channels: of the images: 1 for grey, 3 for colour.
        width: multiple of the 6 and 16 maps and the 120 and 84 units.

    Raises:
        ModelError: another size of images, or a size is not positive.

    Example:
        >>> sum(parameter.numel() for parameter in LeNet().parameters())
        61706

    References:
        LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998.
    """

    def __init__(self, classes: int = 10, image_size: int = 28, channels: int = 1, width: int = 1) -> None:
        super().__init__(classes, channels, exactly=image_size)
        if image_size not in _PADDING:
            raise ModelError(
                f"LeNet: image_size must be 28 or 32, not {image_size}; resize the data (size), or use ConvNet"
            )
        check_positive(self, width=width)
        first, second = (width * count for count in _MAPS)
        third, fourth = (width * count for count in _UNITS)
        self.conv1 = nn.Conv2d(channels, first, 5, padding=_PADDING[image_size])
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(first, second, 5)
        self.pool2 = nn.MaxPool2d(2)
        self.hidden1 = nn.Sequential(nn.Linear(second * _LAST_SIZE**2, third), nn.ReLU())
        self.hidden2 = nn.Sequential(nn.Linear(third, fourth), nn.ReLU())
        self.head = nn.Linear(fourth, classes)
        self.feature_paths = ("pool1", "pool2", "hidden1", "hidden2")
        he_initialise(self, linear=(self.head,))

    @override
    def classify(self, x: Tensor) -> Tensor:
        h = self.pool1(F.relu(self.conv1(x)))
        h = self.pool2(F.relu(self.conv2(h)))
        logits: Tensor = self.head(self.hidden2(self.hidden1(h.flatten(1))))
        return logits
