"""The convolutional ladder VAE ([U] App. F.1; Sønderby et al. 2016): a hierarchy of spatial Gaussian latents."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from typing_extensions import override

from limbeck.core.divergence import kl
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites
from limbeck.core.trace import KEEP_NOTHING
from limbeck.errors import ModelError
from limbeck.models.gaussians import gaussian, precision_weighted
from limbeck.models.inputs import check_images
from limbeck.models.ladder.blocks import BottomUp, TopDown
from limbeck.models.sizes import check_positive, check_warm_up

__all__ = ["LadderVAE"]


class LadderVAE(DGM):
    r"""Hierarchical VAE with latents z1 (finest) to zL (coarsest) and target ``y``, an image.

    .. math:: p(y, z) = p(z_L) \prod_{i<L} p(z_i | z_{i+1}) \, p(y | z_1)

    Each conditional is a residual network after nearest-neighbour upsampling; each posterior q(z_i | z_{i+1}, y) is the
    precision-weighted product of the prior with a Gaussian from the bottom-up network (Ladder VAE, Eq. 17-19). The
    likelihood is Gaussian around an unbounded mean, with one fixed scale: clamp means to [0, 1] for pictures.

    With ``domains`` it is a model of p(y | x), where x says which domain an image is from ([U] Sec. 4.2, App. F.2): x
    is appended to the input of every network as constant maps, and the root becomes a learned Gaussian p(z_L | x).

    Args:
        image_size: height and width of the (square) images in pixels.
        image_channels: 1 for grey, 3 for colour.
        levels: number of latents L; latent i has about ``image_size / 2**i`` pixels a side.
        width: channels of the residual blocks.
        latent_channels: channels of each latent; the 32 of [U] App. F.1 are those of its mean and scale maps together.
        top_halvings: how often the resolution is halved before the last latent; the published 64-pixel models use 2.
        output_scale: standard deviation of p(y | z1); sqrt(beta / 2) turns the loss into the beta-weighted one with
            squared error, up to a factor.
        warm_up: fraction of the training over which the KL weight rises linearly from 0 to 1.
        domains: number of domains; 0 for a model without x.
        batch_statistics: batch norm has no running statistics, and uses those of the batch also in eval mode, over the
            rows of one domain each; [U] App. F.2 needs it where a model learns one domain after another. Rows of a
            batch then depend on one another, so draw hundreds at a time.
        learned_scale: the output scale is a parameter, which starts at ``output_scale``; a student that cannot know all
            that determines its teacher's picture then widens its law instead of paying for the squared error.

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
        domains: int = 0,
        batch_statistics: bool = False,
        learned_scale: bool = False,
    ) -> None:
        super().__init__()
        check_positive(
            self, image_size=image_size, image_channels=image_channels, levels=levels, width=width,
            latent_channels=latent_channels, top_halvings=top_halvings, output_scale=output_scale,
        )  # fmt: skip
        check_warm_up(self, warm_up)
        if domains < 0:
            raise ModelError(f"LadderVAE: domains must not be negative, but is {domains}; 0 is a model without domains")
        halvings = [1] * (levels - 1) + [top_halvings]
        if sum(halvings) > math.ceil(math.log2(image_size)):
            raise ModelError(
                f"LadderVAE: {levels} levels halve {sum(halvings)} times, but {image_size} pixels can be halved only "
                f"{math.ceil(math.log2(image_size))} times; use fewer levels or larger images"
            )
        self.levels = levels
        self.latent_channels = latent_channels
        self.output_scale = output_scale
        # A factor that starts at 1, so that weight decay draws the scale towards where it began.
        self.log_factor = nn.Parameter(torch.zeros(())) if learned_scale else None
        self.warm_up = warm_up
        self.domains = domains
        self.image_shape = (image_channels, image_size, image_size)
        sizes = [image_size]
        for count in halvings:
            sizes.append(-(-sizes[-1] // 2**count))
        self.sizes = tuple(sizes)
        # top_down[i] maps z_{i+1} to the parameters of what lies below it: z_i, or the image for i = 0.
        self.top_down = nn.ModuleList(
            TopDown(
                latent_channels, width, image_channels if i == 0 else 2 * latent_channels, sizes[i], domains=domains,
                batch_statistics=batch_statistics,
            )
            for i in range(levels)
        )  # fmt: skip
        self.bottom_up = nn.ModuleList(
            BottomUp(
                image_channels if i == 0 else width, width, 2 * latent_channels, halvings[i], first=i == 0,
                domains=domains, batch_statistics=batch_statistics,
            )
            for i in range(levels)
        )  # fmt: skip
        # A row of the table is all that a domain has to itself: no bias, which all would share.
        self.root = nn.Linear(domains, 2 * latent_channels * sizes[-1] ** 2, bias=False) if domains else None

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """Draw zL, ..., z1, then the image ``y`` of shape (batch, image_channels, image_size, image_size)."""
        x = self._domain(x)
        z = sites.latent(f"z{self.levels}", self._root(sites, x))
        for level in range(self.levels - 1, 0, -1):
            z = sites.latent(f"z{level}", gaussian(self.top_down[level](z, x)))
        sites.target("y", self._likelihood(z, x))

    @override
    def infer(self, sites: Sites, y: Tensor, x: Tensor | None = None) -> None:
        """Draw zL, ..., z1 from the posterior given images ``y``, and their domains ``x`` if the model has any."""
        self._infer(sites, y, self._domain(x))

    @override
    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        """Negative evidence lower bound in nats per image, with the KL weight warmed up.

        Args:
            batch: ``y`` of shape (batch, image_channels, image_size, image_size), in [0, 1]; ``x`` one-hot of shape
                (batch, domains) if the model has domains.
            progress: fraction of the training that is done.

        Returns:
            Terms ``y`` (negative log-likelihood) and ``z1`` ... ``zL`` (weighted KL).
        """
        sites = self._sites(len(batch), None, None, None, keep=lambda name, kind: KEEP_NOTHING)
        x = self._domain(batch.x)
        z, pairs = self._infer(sites, batch.y, x)
        rows = -self._likelihood(z, x).log_prob(batch.y).flatten(1).sum(1)  # type: ignore[no-untyped-call]
        weight = min(1.0, progress / self.warm_up) if self.warm_up > 0 else 1.0
        terms = {"y": rows.mean()}
        for level in sorted(pairs):
            posterior, prior = pairs[level]
            terms[f"z{level}"] = weight * kl(posterior, prior).mean()
        return Loss.of(terms)

    @override
    def inference_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of the bottom-up network."""
        return self.bottom_up.parameters()

    def _domain(self, x: Tensor | None) -> Tensor | None:
        """The domain as the networks take it: ``None`` for a model without domains."""
        if self.root is None:
            return None
        if x is None or x.ndim != 2 or x.shape[1] != self.domains:
            found = "none was given" if x is None else f"x has shape {tuple(x.shape)}"
            raise ModelError(
                f"LadderVAE has {self.domains} domains and needs x, one-hot of shape (batch, {self.domains}), but "
                f"{found}; set domains of the model, or condition of the recipe"
            )
        return x.to(self.root.weight.dtype)  # one_hot gives integers

    def _root(self, sites: Sites, x: Tensor | None) -> Normal:
        size = self.sizes[-1]
        if x is None or self.root is None:
            return sites.standard_normal(self.latent_channels, size, size)
        return gaussian(self.root(x).view(-1, 2 * self.latent_channels, size, size))

    def _likelihood(self, z: Tensor, x: Tensor | None) -> Normal:
        scale: float | Tensor = self.output_scale
        if self.log_factor is not None:
            scale = scale * self.log_factor.exp()
        return Normal(self.top_down[0](z, x), scale, validate_args=False)

    def _evidence(self, y: Tensor, x: Tensor | None) -> list[Normal]:
        check_images(self, y, self.image_shape)
        if self.training and len(y) == 1 and self.sizes[-1] == 1:
            raise ModelError(
                "LadderVAE: batch norm cannot normalise the single number of a channel that one row has at the last "
                "level; train on at least 2 rows at a time, or call eval() first"
            )
        evidence = []
        for network in self.bottom_up:
            y, parameters = network(y, x)
            evidence.append(gaussian(parameters))
        return evidence

    def _infer(self, sites: Sites, y: Tensor, x: Tensor | None) -> tuple[Tensor, dict[int, tuple[Normal, Normal]]]:
        """Run the posterior; returns z1 and, a level, (posterior, prior)."""
        evidence = self._evidence(y, x)
        prior = self._root(sites, x)
        posterior = evidence[-1]
        pairs = {self.levels: (posterior, prior)}
        z = sites.latent(f"z{self.levels}", posterior)
        for level in range(self.levels - 1, 0, -1):
            prior = gaussian(self.top_down[level](z, x))
            posterior = precision_weighted(prior, evidence[level - 1])
            pairs[level] = posterior, prior
            z = sites.latent(f"z{level}", posterior)
        return z, pairs
