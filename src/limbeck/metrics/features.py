"""Networks that turn images into the features on which distances between image sets are measured."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from limbeck.errors import DataError, ModelError
from limbeck.files import atomic_write_bytes
from limbeck.pixels import bytes_to_floats

__all__ = ["ClassifierFeatures", "FeatureExtractor", "TorchScriptFeatures", "extract"]


class FeatureExtractor(nn.Module, ABC):
    """A named image network. The name belongs beside every number: distances in other features are not comparable.

    Attributes:
        name: short name, e.g. ``"digits-cnn"``.
        num_features: length of a feature vector.
    """

    name: str
    num_features: int

    @abstractmethod
    @override
    def forward(self, images: Tensor) -> Tensor:
        """Features of images.

        Args:
            images: floats in [0, 1], shape (rows, channels, height, width).

        Returns:
            Features of shape (rows, num_features).
        """


class ClassifierFeatures(FeatureExtractor):
    """A small convolutional classifier; its features are the activations before the last linear layer.

    Blocks of two 3x3 convolutions (batch norm, ReLU) and 2x2 max pooling, until at most 4 pixels a side are left. Train
    it with :meth:`loss`; measure with it in eval mode, which :func:`extract` sees to.

    Args:
        channels: colour channels of the images, 1 or 3.
        size: pixels a side, 8 to 64.
        classes: number of classes.
        name: name of the extractor, e.g. ``"digits-cnn"``.
        width: channels of the first block; doubled in the second and quadrupled from the third on.
        num_features: length of a feature vector.

    >>> network = ClassifierFeatures(channels=1, size=8, classes=10, name="digits-cnn")
    >>> network(torch.zeros(2, 1, 8, 8)).shape, network.logits(torch.zeros(2, 1, 8, 8)).shape
    (torch.Size([2, 64]), torch.Size([2, 10]))
    """

    def __init__(
        self, channels: int, size: int, classes: int, name: str, width: int = 32, num_features: int = 64
    ) -> None:
        super().__init__()
        self.config = {
            "channels": channels,
            "size": size,
            "classes": classes,
            "name": name,
            "width": width,
            "num_features": num_features,
        }
        self.name = name
        self.num_features = num_features
        layers: list[nn.Module] = []
        before, pixels = channels, size
        while pixels > 4:
            after = width * min(2 ** len(layers), 4)
            layers.append(nn.Sequential(_convolution(before, after), _convolution(after, after), nn.MaxPool2d(2)))
            before, pixels = after, pixels // 2
        self.blocks = nn.Sequential(*layers)
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(before * pixels**2, num_features), nn.ReLU())
        self.head = nn.Linear(num_features, classes)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Penultimate activations, shape (rows, num_features); see :class:`FeatureExtractor`."""
        expected = (self.config["channels"], self.config["size"], self.config["size"])
        if tuple(images.shape[1:]) != expected:
            raise DataError(f"{self.name} reads images of shape {expected}, not {tuple(images.shape[1:])}.")
        features: Tensor = self.neck(self.blocks(images * 2 - 1))
        return features

    def logits(self, images: Tensor) -> Tensor:
        """Unnormalised log-probabilities of the classes, shape (rows, classes)."""
        logits: Tensor = self.head(self(images))
        return logits

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy in nats over the rows; ``labels`` are int64 class indices, shape (rows,)."""
        return F.cross_entropy(self.logits(images), labels)

    def save(self, path: str | Path) -> None:
        """Write weights and configuration into one safetensors file, which appears complete or not at all.

        Raises:
            StorageError: the file cannot be written.
        """
        from safetensors.torch import save

        weights = {key: tensor.detach().cpu().contiguous() for key, tensor in self.state_dict().items()}
        atomic_write_bytes(path, save(weights, metadata={"config": json.dumps(self.config)}))

    @classmethod
    def load(cls, path: str | Path) -> ClassifierFeatures:
        """Read what :meth:`save` wrote; the network comes back on the CPU in eval mode.

        Raises:
            ModelError: the file is missing, corrupt, or holds another network.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                config: dict[str, Any] = json.loads((file.metadata() or {})["config"])
                weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dictionary
            network = cls(**config)
            network.load_state_dict(weights)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(
                f"{path} is not a saved ClassifierFeatures ({error}); delete it and train the extractor again."
            ) from error
        return network.eval()


class TorchScriptFeatures(FeatureExtractor):
    """Features from your own TorchScript file, for instance an Inception network with published weights.

    A TorchScript file is a program: load only files that you trust. Its output must have shape (rows, features).

    Args:
        path: the file; its stem becomes the name of the extractor.
        size: pixels a side that the network wants; images are resized to it (bilinear, antialiased). ``None``: as is.
        channels: channels that the network wants; grey images are repeated to fill them.
        black: value that the network expects for 0, e.g. -1.
        white: value that the network expects for 1, e.g. 1 or 255.
        arguments: further keyword arguments of the network's ``forward``, e.g. ``{"return_features": True}``.

    Raises:
        ModelError: the file is missing, not TorchScript, or does not map images to feature vectors.
    """

    def __init__(
        self,
        path: str,
        size: int | None = 299,
        channels: int = 3,
        black: float = 0.0,
        white: float = 1.0,
        arguments: dict[str, bool | int | float | str] | None = None,
    ) -> None:
        super().__init__()
        self.name = Path(path).stem
        self.size = size
        self.channels = channels
        self.black = black
        self.white = white
        self.arguments = arguments or {}
        if not Path(path).is_file():
            raise ModelError(f"{path} does not exist; give the path of a TorchScript file.")
        try:
            # Dispatches on the file's own format, so a pickle of Python objects is refused rather than run.
            self.network: nn.Module = torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(f"{path} is not a TorchScript file; write one with torch.jit.save ({error}).") from error
        side = size or 64
        try:
            with torch.no_grad():
                shape = tuple(self(torch.zeros(2, channels, side, side)).shape)
        except (RuntimeError, AttributeError) as error:
            raise ModelError(
                f"{path} fails on two images of shape {(channels, side, side)}; set size, channels and arguments to "
                f"what the network expects ({error})."
            ) from error
        if len(shape) != 2 or shape[0] != 2:
            raise ModelError(f"{path} maps 2 images to shape {shape}, not to (2, features).")
        self.num_features = shape[1]

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Features of the resized and rescaled images; see :class:`FeatureExtractor`."""
        if images.shape[1] == 1:
            images = images.expand(-1, self.channels, -1, -1)
        if self.size is not None and images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True)
        features: Tensor = self.network(self.black + (self.white - self.black) * images, **self.arguments)
        return features


def extract(extractor: FeatureExtractor, images: Tensor, batch_size: int = 500) -> Tensor:
    """Features of many images: eval mode, no gradients, in batches on the extractor's device.

    Args:
        extractor: the network; its training flags are put back afterwards.
        images: floats in [0, 1], or uint8 in 0-255; shape (rows, channels, height, width).
        batch_size: images at a time.

    Returns:
        Features on the CPU, float32, shape (rows, num_features).

    Raises:
        DataError: there are no images, or values are not finite or outside [0, 1]. Clamping is the caller's decision,
            because it changes the number that is measured and must be reported with it.
    """
    if images.ndim != 4 or len(images) == 0:
        raise DataError(f"expected images of shape (rows, channels, height, width), not {tuple(images.shape)}.")
    if images.dtype != torch.uint8:
        low, high = float(images.min()), float(images.max())  # NaN if any value is
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"images go from {low:.4g} to {high:.4g}, but {extractor.name} reads values in [0, 1]. Clamp samples "
                "first (images.clamp(0, 1)) and say so beside the number; NaN means that the model is broken."
            )
    device = next((tensor.device for tensor in extractor.state_dict().values()), torch.device("cpu"))
    training = {module: module.training for module in extractor.modules()}
    extractor.eval()
    try:
        with torch.no_grad():
            batches = (bytes_to_floats(batch.to(device)).float() for batch in torch.split(images, batch_size))
            parts = [extractor(batch).float().cpu() for batch in batches]
    finally:
        for module, flag in training.items():
            module.training = flag
    return torch.cat(parts)


def _convolution(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
