"""A convolutional generative adversarial network (Radford et al. 2016) whose output is a deterministic target."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from limbeck.core.delta import Delta
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites
from limbeck.errors import ModelError
from limbeck.models.inputs import check_images
from limbeck.models.sizes import check_positive

__all__ = ["DCGAN"]

_FIRST_SIZE = 4  # pixels a side of the first feature map (Radford et al. 2016, Fig. 1)
_SLOPE = 0.2  # of the discriminator's leaky ReLUs (the same, Sec. 4)


class DCGAN(DGM):
    r"""Generator G(z) with feature maps ``f[0]``, ``f[1]``, ... and an image ``y``, all deterministic given z.

    .. math:: z \sim N(0, I), \qquad f_0 = g_0(z), \quad f_i = g_i(f_{i - 1}), \quad y = G(z)

    [U] Sec. 3.5 views "the intermediate features and generator output as latent variables following degenerate
    distributions": the law of ``y`` given z is a point mass, so its divergence is a norm. The maps start at 4x4 pixels;
    each doubles the size and halves the channels. The discriminator serves only :meth:`loss` and is no part of the
    generator.

    Args:
        image_size: height and width of the (square) images in pixels: 4 times a power of two, at least 8.
        image_channels: 1 for grey, 3 for colour.
        width: channels of the last feature map.
        latent_size: dimensions of z.
        critic_width: channels of the discriminator's first feature map.
        penalty: gamma, weight of the gradient penalty that keeps the discriminator flat around the data, so that the
            two players settle.

    Raises:
        ModelError: a size is not positive, ``penalty`` is negative, or ``image_size`` is not 4 times a power of two.

    Example:
        >>> DCGAN(image_size=8, image_channels=1, width=4, latent_size=8).trace(batch_size=2)
        Trace(z: latent, f[0]: deterministic, f[1]: deterministic, y: target)

    References:
        Radford, Metz, Chintala, Unsupervised Representation Learning with Deep Convolutional GANs, ICLR 2016.
        Mescheder, Geiger, Nowozin, Which Training Methods for GANs do actually Converge?, ICML 2018.
    """

    def __init__(
        self,
        image_size: int = 32,
        image_channels: int = 3,
        width: int = 64,
        latent_size: int = 64,
        critic_width: int = 64,
        penalty: float = 0.5,
    ) -> None:
        super().__init__()
        check_positive(
            self, image_channels=image_channels, width=width, latent_size=latent_size, critic_width=critic_width
        )
        if not penalty >= 0:
            raise ModelError(f"DCGAN: penalty must not be negative, but is {penalty}")
        doublings = round(math.log2(max(image_size, 1) / _FIRST_SIZE))
        if doublings < 1 or image_size != _FIRST_SIZE * 2**doublings:
            raise ModelError(f"DCGAN: image_size must be 8, 16, 32, ..., not {image_size}; resize or pad the data")
        self.latent_size = latent_size
        self.penalty = penalty
        self.image_shape = (image_channels, image_size, image_size)
        channels = [width * 2 ** (doublings - level) for level in range(doublings + 1)]
        self.first = nn.Linear(latent_size, channels[0] * _FIRST_SIZE**2, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(count) for count in channels)
        self.blocks = nn.ModuleList(
            nn.ConvTranspose2d(channels[i], channels[i + 1], 4, stride=2, padding=1, bias=False)
            for i in range(doublings)
        )
        self.to_image = nn.Conv2d(channels[-1], image_channels, 3, padding=1)
        self.discriminator = _discriminator(image_channels, critic_width, doublings)

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """Draw ``z``, then the feature maps and the image ``y``, shape (batch, channels, size, size), in [0, 1]."""
        z = sites.latent("z", sites.standard_normal(self.latent_size))
        h = self._first_map(z)
        for level in range(len(self.norms)):
            h = sites.deterministic(f"f[{level}]", self._map(level, h))
        sites.target("y", Delta(self._image(h)))

    @override
    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        r"""Non-saturating loss of the generator, that of the discriminator, and the latter's gradient penalty.

        .. math:: E_z[-\log \sigma(D(G(z)))] + E_y[-\log \sigma(D(y))] + E_z[-\log(1 - \sigma(D(G(z))))]
                  + \frac\gamma2 E_y \| \nabla D(y) \|^2

        (Goodfellow et al. 2014, Sec. 3; Mescheder et al. 2018, Eq. 9.) One backward pass and one optimiser train both:
        the generator's term does not reach the discriminator's weights, nor the others the generator's.

        Args:
            batch: ``y`` of shape (batch, channels, size, size), in [0, 1].
            progress: not used.

        Returns:
            Terms ``generator`` and ``discriminator``, in nats, and ``penalty``.
        """
        check_images(self, batch.y, self.image_shape)
        fake = self.sample_differentiably(len(batch))
        with _without_gradients(self.discriminator):
            fooled = self._judge(fake)
        images = batch.y.detach().requires_grad_(True)
        learning = torch.is_grad_enabled()
        with torch.enable_grad():  # the penalty needs a derivative where the loss itself does not, as in a validation
            real = self._judge(images)
            (slope,) = torch.autograd.grad(real.sum(), images, create_graph=learning)
        exposed = self._judge(fake.detach())
        return Loss.of(
            {
                "generator": F.softplus(-fooled).mean(),
                "discriminator": F.softplus(-real).mean() + F.softplus(exposed).mean(),
                "penalty": 0.5 * self.penalty * slope.square().flatten(1).sum(1).mean(),
            }
        )

    def sample_differentiably(self, rows: int) -> Tensor:
        """Images with gradients towards the generator, shape (rows, channels, size, size)."""
        image = self.trace(rows)["y"].value
        assert image is not None
        return image

    @override
    def inference_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of the discriminator: a deployed generator has none of them."""
        return self.discriminator.parameters()

    def _judge(self, images: Tensor) -> Tensor:
        """The discriminator's logits, shape (batch, 1): positive where it takes an image for real."""
        logits: Tensor = self.discriminator(2.0 * images - 1.0)
        return logits

    def _first_map(self, z: Tensor) -> Tensor:
        h: Tensor = self.first(z)
        return h.view(z.shape[0], -1, _FIRST_SIZE, _FIRST_SIZE)

    def _map(self, level: int, h: Tensor) -> Tensor:
        if level:
            h = self.blocks[level - 1](h)
        return F.relu(self.norms[level](h))

    def _image(self, h: Tensor) -> Tensor:
        image: Tensor = self.to_image(h).sigmoid()
        return image


def _discriminator(image_channels: int, width: int, halvings: int) -> nn.Sequential:
    """Images to one logit a row; without batch norm, which would make a row's gradient depend on the other rows."""
    layers: list[nn.Module] = [nn.Conv2d(image_channels, width, 3, padding=1), nn.LeakyReLU(_SLOPE)]
    for level in range(halvings):
        before = width * 2**level
        layers += [nn.Conv2d(before, 2 * before, 4, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
    layers += [nn.Flatten(), nn.Linear(width * 2**halvings * _FIRST_SIZE**2, 1)]
    return nn.Sequential(*layers)


@contextlib.contextmanager
def _without_gradients(module: nn.Module) -> Iterator[None]:
    """Gradients pass through the module to its input but do not reach its own parameters."""
    wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
