"""The variational information bottleneck ([U] Sec. 4.3, App. F.5; Alemi et al. 2017): a classifier with a latent."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal
from torch.nn import functional as F
from typing_extensions import override

from limbeck.core.divergence import kl
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites
from limbeck.errors import ModelError
from limbeck.models.inputs import check_images, class_loss
from limbeck.models.sizes import check_positive

__all__ = ["VIB"]

# The raw scale at which softplus is that of a fresh network: p(z | x) starts narrow, so that training starts like that
# of a network without noise (Alemi et al. 2017, Sec. 4.1).
_SCALE_SHIFT = -5.0
_SMALLEST_SCALE = 1e-6


class VIB(DGM):
    r"""Classifier of images through a Gaussian code z, target ``y``, a class.

    .. math:: p(y, z | x) = p(z | x) \, p(y | z), \qquad
              L_{VIB} = E_{p(z | x)}[-\log p(y | z)] + \beta \, KL(p(z | x) \,\|\, N(0, I))

    p(z | x) is a diagonal Gaussian from a network with two hidden layers, p(y | z) a linear softmax. One draw of z
    estimates the loss; a prediction averages the probabilities over several (see
    :class:`limbeck.engine.ClassifierEvaluation`).

    Without noise (``stochastic=False``) the same network is a plain classifier: all its ``2 * latent_size`` outputs are
    the code, a deterministic site that the softmax reads, and the loss is the cross entropy alone. With dropout it is
    the other deterministic baseline of [U] Table 2.

    Args:
        image_size: height and width of the (square) images in pixels.
        image_channels: 1 for grey, 3 for colour.
        hidden: width of the two hidden layers.
        latent_size: dimensions of z.
        classes: number of classes.
        beta: weight of the KL term, in nats per nat.
        stochastic: whether the code is drawn from a Gaussian.
        dropout: share of the hidden units that are dropped in training, after each hidden layer.

    Raises:
        ModelError: a size is not positive, beta is negative, or dropout is no share below 1.

    Example:
        >>> model = VIB(image_size=8, hidden=16, latent_size=4)
        >>> model.sample(x=torch.zeros(2, 1, 8, 8), output="mean")["y"].shape
        torch.Size([2, 10])

    References:
        Alemi et al., Deep Variational Information Bottleneck, ICLR 2017.
    """

    def __init__(
        self,
        image_size: int = 28,
        image_channels: int = 1,
        hidden: int = 1024,
        latent_size: int = 256,
        classes: int = 10,
        beta: float = 1e-3,
        stochastic: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(
            self, image_size=image_size, image_channels=image_channels, hidden=hidden, latent_size=latent_size,
            classes=classes,
        )  # fmt: skip
        if not beta >= 0:
            raise ModelError(f"VIB: beta must not be negative, but is {beta}")
        if not 0 <= dropout < 1:
            raise ModelError(f"VIB: dropout is a share in [0, 1), not {dropout}")
        self.image_shape = (image_channels, image_size, image_size)
        self.beta = beta
        self.stochastic = stochastic
        pixels = image_channels * image_size**2
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(pixels, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, 2 * latent_size),
        )  # fmt: skip
        self.classifier = nn.Linear(latent_size if stochastic else 2 * latent_size, classes)

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """Draw the code ``z`` of images ``x``, shape (batch, image_channels, image_size, image_size), and a class."""
        code = self._encode(x)
        z = sites.latent("z", code) if isinstance(code, Normal) else sites.deterministic("z", code)
        sites.target("y", Categorical(logits=self.classifier(z), validate_args=False))

    @override
    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        """Cross entropy of one draw of the code, and beta times the KL of its law to the unit Gaussian.

        Args:
            batch: ``x`` of shape (batch, image_channels, image_size, image_size) in [0, 1], ``y`` the classes, int64
                of shape (batch,).
            progress: not used.

        Returns:
            Terms ``y`` and, if there is noise, ``z``; in nats per image.
        """
        code = self._encode(batch.x)
        if not isinstance(code, Normal):
            return Loss.of({"y": class_loss(self, self.classifier(code), batch.y)})
        unit = Normal(torch.zeros_like(code.loc), torch.ones_like(code.scale), validate_args=False)
        return Loss.of(
            {
                "y": class_loss(self, self.classifier(code.rsample()), batch.y),
                "z": self.beta * kl(code, unit).mean(),
            }
        )

    def _encode(self, x: Tensor | None) -> Normal | Tensor:
        """Law of the code, batch shape (batch, latent_size), or without noise the code, (batch, 2 * latent_size)."""
        if x is None:
            raise ModelError("VIB classifies images, but got none; give x, or condition: images in a recipe")
        check_images(self, x, self.image_shape)
        parameters: Tensor = self.encoder(x)
        if not self.stochastic:
            return parameters
        mean, raw = parameters.chunk(2, dim=1)
        return Normal(mean, F.softplus(raw + _SCALE_SHIFT) + _SMALLEST_SCALE, validate_args=False)
