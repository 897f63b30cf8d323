"""The convolutional ladder VAE ([U] App. F.1; Sønderby et al. 2016): a hierarchy of spatial Gaussian latents."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F

from limbeck.core.divergence import kl
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites
from limbeck.core.trace import KEEP_NOTHING
from limbeck.errors import ModelError
from limbeck.models.sizes import check_positive

__all__ = ["LadderVAE"]


class LadderVAE(DGM):
    r"""Hierarchical VAE with latents z1 (finest) to zL (coarsest) and target ``y``, an image.

    .. math:: p(y, z) = p(z_L) \prod_{i<L} p(z_i | z_{i+1}) \, p(y | z_1)

    Each conditional is a residual network after nearest-neighbour upsampling; each posterior q(z_i | z_{i+1}, y) is the
    precision-weighted product of the prior with a Gaussian from the bottom-up network (Ladder VAE, Eq. 17-19). The
    likelihood is Gaussian around an unbounded mean, with one fixed scale: clamp means to [0, 1] for pictures.

    Args:
        image_size: height and width of the (square) images in pixels.
        image_channels: 1 for grey, 3 for colour.
        levels: number of latents L; latent i has about ``image_size / 2**i`` pixels a side.
        width: channels of the residual blocks.
        latent_channels: channels of each latent.
        top_halvings: how often the resolution is halved before the last latent; the paper's 64-pixel models use 2.
        output_scale: standard deviation of p(y | z1); sqrt(beta / 2) turns the loss into the beta-weighted one with
            squared error, up to a factor.
        warm_up: fraction of the training over which the KL weight rises linearly from 0 to 1.

    Raises:
        ModelError: a size is not positive, or there are more halvings than pixels.

    References:
        Sønderby et al., Ladder Variational Autoencoders, NeurIPS 2016.
    """

    def __init__(
        self,
        image_size: int = 32,
        image_channels: int = 3,
        levels: int = 5,
        width: int = 128,
        latent_channels: int = 16,
        top_halvings: int = 1,
        output_scale: float = 0.2236,
        warm_up: float = 0.5,
    ) -> None:
        super().__init__()
        check_positive(
            self, image_size=image_size, image_channels=image_channels, levels=levels, width=width,
            latent_channels=latent_channels, top_halvings=top_halvings, output_scale=output_scale,
        )  # fmt: skip
        halvings = [1] * (levels - 1) + [top_halvings]
        if sum(halvings) > math.ceil(math.log2(image_size)):
            raise ModelError(
                f"LadderVAE: {levels} levels halve {sum(halvings)} times, but {image_size} pixels can be halved only "
                f"{math.ceil(math.log2(image_size))} times; use fewer levels or larger images"
            )
        self.levels = levels
        self.latent_channels = latent_channels
        self.output_scale = output_scale
        self.warm_up = warm_up
        self.image_shape = (image_channels, image_size, image_size)
        sizes = [image_size]
        for count in halvings:
            sizes.append(-(-sizes[-1] // 2**count))
        self.sizes = tuple(sizes)
        # top_down[i] maps z_{i+1} to the parameters of what lies below it: z_i, or the image for i = 0.
        self.top_down = nn.ModuleList(
            TopDown(latent_channels, width, image_channels if i == 0 else 2 * latent_channels, sizes[i])
            for i in range(levels)
        )
        self.bottom_up = nn.ModuleList(
            BottomUp(image_channels if i == 0 else width, width, 2 * latent_channels, halvings[i], first=i == 0)
            for i in range(levels)
        )

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """Draw zL, ..., z1, then the image ``y`` of shape (batch, image_channels, image_size, image_size)."""
        z = sites.latent(f"z{self.levels}", self._root(sites))
        for level in range(self.levels - 1, 0, -1):
            z = sites.latent(f"z{level}", gaussian(self.top_down[level](z)))
        sites.target("y", self._likelihood(z))

    def infer(self, sites: Sites, y: Tensor, x: Tensor | None = None) -> None:
        """Draw zL, ..., z1 from the posterior given images ``y``."""
        self._infer(sites, y)

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        """Negative evidence lower bound in nats per image, with the KL weight warmed up.

        Args:
            batch: ``y`` of shape (batch, image_channels, image_size, image_size), in [0, 1].
            progress: fraction of the training that is done.

        Returns:
            Terms ``y`` (negative log-likelihood) and ``z1`` ... ``zL`` (weighted KL).
        """
        sites = self._sites(len(batch), None, None, None, keep=lambda name, kind: KEEP_NOTHING)
        z, pairs = self._infer(sites, batch.y)
        rows = -self._likelihood(z).log_prob(batch.y).flatten(1).sum(1)  # type: ignore[no-untyped-call]
        weight = min(1.0, progress / self.warm_up) if self.warm_up > 0 else 1.0
        terms = {"y": rows.mean()}
        for level, (posterior, prior) in sorted(pairs.items()):
            terms[f"z{level}"] = weight * kl(posterior, prior).mean()
        return Loss.of(terms)

    @torch.no_grad()
    def reconstruct(self, y: Tensor) -> Tensor:
        """Mean of p(y | z1) with every latent at its posterior mean; same shape as ``y``, not clamped."""
        evidence = self._evidence(y)
        z = evidence[-1].mean
        for level in range(self.levels - 1, 0, -1):
            z = precision_weighted(gaussian(self.top_down[level](z)), evidence[level - 1]).mean
        return self._likelihood(z).mean

    def inference_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of the bottom-up network."""
        return self.bottom_up.parameters()

    def _root(self, sites: Sites) -> Normal:
        return sites.standard_normal(self.latent_channels, self.sizes[-1], self.sizes[-1])

    def _likelihood(self, z: Tensor) -> Normal:
        return Normal(self.top_down[0](z), self.output_scale, validate_args=False)

    def _evidence(self, y: Tensor) -> list[Normal]:
        if y.shape[1:] != self.image_shape:
            raise ModelError(
                f"LadderVAE is built for images of shape {self.image_shape} but got {tuple(y.shape[1:])}; set "
                "image_size and image_channels of the model, or size and channels of the data"
            )
        evidence = []
        for network in self.bottom_up:
            y, parameters = network(y)
            evidence.append(gaussian(parameters))
        return evidence

    def _infer(self, sites: Sites, y: Tensor) -> tuple[Tensor, dict[int, tuple[Normal, Normal]]]:
        """Run the posterior; returns z1 and, a level, (posterior, prior)."""
        evidence = self._evidence(y)
        prior = self._root(sites)
        posterior = evidence[-1]
        pairs = {self.levels: (posterior, prior)}
        z = sites.latent(f"z{self.levels}", posterior)
        for level in range(self.levels - 1, 0, -1):
            prior = gaussian(self.top_down[level](z))
            posterior = precision_weighted(prior, evidence[level - 1])
            pairs[level] = posterior, prior
            z = sites.latent(f"z{level}", posterior)
        return z, pairs


class ResidualBlock(nn.Module):
    """conv3x3 - BN - ReLU - conv3x3 - BN, plus the input (through a 1x1 convolution if asked or needed)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, *, project: bool = False) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        project = project or inputs != outputs or stride != 1
        self.shortcut = nn.Identity() if not project else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        h = F.relu(self.norm1(self.convolution1(x)))
        h = self.norm2(self.convolution2(h))
        result: Tensor = h + self.shortcut(x)
        return result


class TopDown(nn.Module):
    """From a latent to the parameters of the variable below it: upsampling, two residual blocks, a 1x1 head."""

    def __init__(self, inputs: int, width: int, outputs: int, size: int) -> None:
        super().__init__()
        self.size = size
        # Projected also where the width happens to be that of the latent, so that all widths have one architecture.
        self.block1 = ResidualBlock(inputs, width, project=True)
        self.block2 = ResidualBlock(width, width)
        self.head = nn.Conv2d(width, outputs, 1, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        """(batch, inputs, h, w) to (batch, outputs, size, size)."""
        h = F.interpolate(z, size=(self.size, self.size), mode="nearest")
        result: Tensor = self.head(self.block2(self.block1(h)))
        return result


class BottomUp(nn.Module):
    """One level of evidence: two residual blocks that halve the resolution, and a 1x1 head."""

    def __init__(self, inputs: int, width: int, outputs: int, halvings: int, *, first: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(inputs, width, 5, stride=2, padding=2) if first else nn.Identity()
        left = halvings - first
        self.block1 = ResidualBlock(width, width, stride=2 if left >= 1 else 1)
        self.block2 = ResidualBlock(width, width, stride=2 ** max(left - 1, 0))
        self.head = nn.Conv2d(width, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, inputs, h, w) to features (batch, width, h', w') and parameters (batch, outputs, h', w')."""
        h = self.block2(self.block1(self.stem(x)))
        return h, self.head(h)


def gaussian(parameters: Tensor) -> Normal:
    """Gaussian from mean and raw scale, stacked along dimension 1.

    Args:
        parameters: shape (batch, 2 * channels, height, width).

    Returns:
        Batch shape (batch, channels, height, width); scale softplus(raw) / ln 2 + 1e-6, which is 1 at raw = 0.
    """
    mean, raw = parameters.chunk(2, dim=1)
    return Normal(mean, F.softplus(raw) * (1.0 / math.log(2.0)) + 1e-6, validate_args=False)


def precision_weighted(first: Normal, second: Normal) -> Normal:
    """Normalised product of two Gaussian densities (Ladder VAE, Eq. 17-19); batch shapes must agree."""
    first_precision = first.scale.pow(-2)
    second_precision = second.scale.pow(-2)
    variance = 1.0 / (first_precision + second_precision)
    mean = (first.loc * first_precision + second.loc * second_precision) * variance
    return Normal(mean, variance.sqrt(), validate_args=False)
