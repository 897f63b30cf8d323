"""The networks of the ladder VAE ([U] App. F.1), without and with a domain as their input ([U] App. F.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from limbeck.core.precision import precise, product

__all__ = ["BottomUp", "DomainNorm", "ResidualBlock", "TopDown"]


class DomainNorm(nn.Module):
    """Batch norm with the statistics of the batch at hand, taken over the rows of one domain.

    There are no running statistics: in eval mode, too, a row is normalised with the rows of its domain that it came
    with ([U] App. F.2 uses batch statistics at evaluation). What a domain looks like does not depend on which other
    domains are in the batch. In a batch of one domain it is plain batch norm. A row that is alone in its domain and has
    a single pixel is normalised to zero, so draw several at a time.

    Args:
        channels: channels of the input.

    Example:
        >>> norm, h = DomainNorm(2), torch.randn(6, 2, 3, 3)
        >>> plain = nn.BatchNorm2d(2, track_running_stats=False)
        >>> torch.allclose(norm(h, torch.eye(2)[[0] * 6]), plain(h), atol=1e-6)
        True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = 1e-5  # torch's own

    @override
    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            h: shape (batch, channels, height, width).
            x: one-hot domain of each row, shape (batch, domains).

        Returns:
            The shape of ``h``.
        """
        values = h.shape[0] * h.shape[2] * h.shape[3]
        # The usual batch has one domain, for which torch has a layer of half the time; on a GPU, asking would stall it.
        if x.device.type == "cpu" and not torch.compiler.is_compiling() and values > 1 and bool((x == x[:1]).all()):
            return F.batch_norm(h, None, None, self.weight, self.bias, training=True, eps=self.eps)
        # Row means first: the sums over a domain's rows are then small matrix products. A domain without rows is 0 / 1.
        # Mixed precision would round the products, and with them the statistics; torch's own layer does not.
        rows, x = precise(h), precise(x)
        share = (x / x.sum(0).clamp(min=1.0)).T
        mean = product(x, product(share, rows.mean((2, 3))))
        centred = rows - mean[:, :, None, None]
        variance = product(x, product(share, centred.square().mean((2, 3))))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias[:, None, None], centred, scale[:, :, None, None]).to(h.dtype)


def norm(channels: int, domains: int, batch_statistics: bool) -> nn.Module:
    """The batch norm of a model: with running statistics, or with those of the batch, of a domain if there are any."""
    if batch_statistics and domains:
        return DomainNorm(channels)
    return nn.BatchNorm2d(channels, track_running_stats=not batch_statistics)


def with_domain(h: Tensor, x: Tensor | None) -> Tensor:
    """Append the domain as constant maps.

    Args:
        h: shape (batch, channels, height, width).
        x: shape (batch, domains), or ``None``.

    Returns:
        Shape (batch, channels + domains, height, width).
    """
    if x is None:
        return h
    return torch.cat([h, x[:, :, None, None].expand(-1, -1, *h.shape[2:])], 1)


class ResidualBlock(nn.Module):
    """conv3x3 - BN - ReLU - conv3x3 - BN, plus the input (through a 1x1 convolution if asked or needed)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        *,
        project: bool = False,
        domains: int = 0,
        batch_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm(outputs, domains, batch_statistics)
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = norm(outputs, domains, batch_statistics)
        project = project or inputs != outputs or stride != 1
        self.shortcut = nn.Identity() if not project else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        self.by_domain = batch_statistics and domains > 0

    @override
    def forward(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height / stride, width / stride); x is the domain."""
        domain = (x,) if self.by_domain else ()
        below = F.relu(self.norm1(self.convolution1(h), *domain))
        below = self.norm2(self.convolution2(below), *domain)
        result: Tensor = below + self.shortcut(h)
        return result


class TopDown(nn.Module):
    """From a latent to the parameters of the variable below it: upsampling, two residual blocks, a 1x1 head."""

    def __init__(
        self, inputs: int, width: int, outputs: int, size: int, *, domains: int = 0, batch_statistics: bool = False
    ) -> None:
        super().__init__()
        self.size = size
        # Projected also where the width happens to be that of the latent, so that all widths have one architecture.
        self.block1 = ResidualBlock(
            inputs + domains, width, project=True, domains=domains, batch_statistics=batch_statistics
        )
        self.block2 = ResidualBlock(width, width, domains=domains, batch_statistics=batch_statistics)
        self.head = nn.Conv2d(width, outputs, 1, bias=False)

    @override
    def forward(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """(batch, inputs, h, w), and the domain (batch, domains) if there is one, to (batch, outputs, size, size)."""
        h = F.interpolate(z, size=(self.size, self.size), mode="nearest")
        result: Tensor = self.head(self.block2(self.block1(with_domain(h, x), x), x))
        return result


class BottomUp(nn.Module):
    """One level of evidence: two residual blocks that halve the resolution, and a 1x1 head."""

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int,
        halvings: int,
        *,
        first: bool,
        domains: int = 0,
        batch_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(inputs + domains, width, 5, stride=2, padding=2) if first else nn.Identity()
        left = halvings - first
        self.block1 = ResidualBlock(
            width if first else width + domains, width, stride=2 if left >= 1 else 1, domains=domains,
            batch_statistics=batch_statistics,
        )  # fmt: skip
        self.block2 = ResidualBlock(
            width, width, stride=2 ** max(left - 1, 0), domains=domains, batch_statistics=batch_statistics
        )
        self.head = nn.Conv2d(width, outputs, 1, bias=False)

    @override
    def forward(self, h: Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features of the level below, and the domain if there is one, to features and parameters of this level.

        Args:
            h: shape (batch, inputs, height, width).
            x: shape (batch, domains).

        Returns:
            Features, shape (batch, width, h', w'), and parameters, shape (batch, outputs, h', w').
        """
        h = self.block2(self.block1(self.stem(with_domain(h, x)), x), x)
        return h, self.head(h)
