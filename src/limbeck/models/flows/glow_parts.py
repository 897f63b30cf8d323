"""What Glow is made of: normalisation, invertible mixing, affine coupling and splitting (Kingma 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from limbeck.core.precision import precise, product
from limbeck.models.flows.bijection import Bijection, Split
from limbeck.models.flows.glow_networks import ScaledConvolution

__all__ = ["GlowStep", "LearnedSplit", "Mixing", "soft_clamp"]


def soft_clamp(raw: Tensor, bound: float) -> Tensor:
    """A smooth map onto (-bound, bound) that is the identity around 0, so that no scale runs away.

    >>> soft_clamp(torch.tensor([0.01, 99.0]), 3.0)
    tensor([0.0100, 3.0000])
    """
    return bound * torch.tanh(raw / bound)


class Mixing(nn.Module):
    r"""An invertible linear map of the channels: :math:`W = P L (U + \mathrm{diag}(s \exp d))` (Glow, Eq. 10).

    P permutes, s holds signs, both fixed. L is lower triangular with a unit diagonal, U strictly upper: with d they are
    ``channels`` squared numbers, kept in one matrix. It starts as a random rotation.

    Args:
        channels: number of channels.
    """

    order: Tensor
    signs: Tensor
    identity: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.empty(channels, channels))
        self.register_buffer("order", torch.arange(channels))
        self.register_buffer("signs", torch.ones(channels))
        self.register_buffer("identity", torch.eye(channels), persistent=False)
        self.become(torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0])

    @torch.no_grad()
    def become(self, matrix: Tensor) -> None:
        """Factor an invertible matrix, shape (channels, channels), into P, L, U, s and d."""
        permutation, lower, upper = torch.linalg.lu(matrix)
        diagonal = upper.diagonal()
        self.order.copy_(permutation.argmax(1))
        self.signs.copy_(diagonal.sign())
        self.factors.copy_(lower.tril(-1) + upper.triu(1) + diagonal.abs().log().diag())

    @torch.no_grad()
    def follow(self, others: Sequence[Mixing]) -> None:
        """Become the product of one or more mixings, in the order in which they are applied."""
        if len(others) == 1:  # to the bit, factors and all
            self.load_state_dict(others[0].state_dict())
            return
        product = others[0].matrix().double()
        for other in others[1:]:
            product = other.matrix().double() @ product
        self.become(product)

    @property
    def log_scale(self) -> Tensor:
        """Logarithms of the diagonal of U, shape (channels,); their sum is the log-determinant."""
        return self.factors.diagonal()

    def matrix(self) -> Tensor:
        """W, shape (channels, channels)."""
        lower, upper = self._triangles()
        return product(lower, upper)[self.order]

    def inverse_matrix(self) -> Tensor:
        """The inverse of W, shape (channels, channels), by two triangular solves."""
        lower, upper = (precise(factor) for factor in self._triangles())  # in half precision there are no solves
        right = self.identity[self.order].T.to(lower)
        half = torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True)
        whole: Tensor = torch.linalg.solve_triangular(upper, half, upper=True)
        return whole.to(self.factors.dtype)

    def _triangles(self) -> tuple[Tensor, Tensor]:
        diagonal = self.signs * self.factors.diagonal().exp()
        return self.factors.tril(-1) + self.identity, self.factors.triu(1) + diagonal.diag()


class GlowStep(Bijection):
    """Normalise each channel, mix them, and shift and scale half of them by what the other half says (Glow, Table 1).

    Normalisation and mixing are one affine map of the channels, and are computed as one.

    Args:
        channels: number of channels, or columns.
        network: from the kept ``channels // 2`` (and the conditioning input) to two numbers for each of the others.
        bound: what the logarithm of a scale cannot exceed; ``None`` only shifts (additive coupling), and ``network``
            then gives one number for each.
    """

    def __init__(self, channels: int, network: nn.Module, bound: float | None) -> None:
        super().__init__()
        self.kept = channels // 2
        self.bound = bound
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.mixing = Mixing(channels)
        self.network = network

    @torch.no_grad()
    @override
    def adapt(self, h: Tensor, x: Tensor | None = None) -> None:
        """Give every channel mean 0 and variance 1 on these rows; a constant channel keeps its scale."""
        deviation, mean = torch.std_mean(h.transpose(0, 1).flatten(1), 1, correction=0)
        varies = deviation > torch.finfo(h.dtype).eps * mean.abs()  # rounding alone gives constants a deviation
        self.shift.copy_(-mean)
        self.log_scale.copy_(torch.where(varies, -deviation.log(), 0.0))

    @override
    def forward(self, h: Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        weight = self.mixing.matrix() * self.log_scale.exp()
        h = _affine(h, weight, product(weight, self.shift))
        # Sums of many small numbers, which half precision would round.
        change = precise(self.log_scale + self.mixing.log_scale).sum() * math.prod(h.shape[2:])
        kept, moved = h[:, : self.kept], h[:, self.kept :]
        shift, log_scale = self._coupling(kept, x)
        moved = moved + shift
        if log_scale is not None:
            moved = moved * log_scale.exp()
            change = change + precise(log_scale).flatten(1).sum(1)
        return torch.cat([kept, moved], 1), change

    @override
    def inverse(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        kept, moved = h[:, : self.kept], h[:, self.kept :]
        shift, log_scale = self._coupling(kept, x)
        if log_scale is not None:
            moved = moved * torch.exp(-log_scale)
        weight = self.mixing.inverse_matrix() * torch.exp(-self.log_scale)[:, None]
        return _affine(torch.cat([kept, moved - shift], 1), weight, -self.shift)

    def _coupling(self, kept: Tensor, x: Tensor | None) -> tuple[Tensor, Tensor | None]:
        numbers = self.network(kept if x is None else torch.cat([kept, x], 1))
        if self.bound is None:
            return numbers, None
        shift, raw = numbers.chunk(2, 1)
        return shift, soft_clamp(raw, self.bound)


class LearnedSplit(Split):
    r"""Half of the channels leave, as Gaussians given the other half: :math:`u = (b - m(a)) / s(a)`.

    Args:
        channels: number of channels, both halves together.
        bound: what the logarithm of a scale cannot exceed.
    """

    def __init__(self, channels: int, bound: float) -> None:
        super().__init__()
        self.kept = channels // 2
        self.bound = bound
        self.prior = ScaledConvolution(self.kept, 2 * (channels - self.kept))

    @override
    def forward(self, h: Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        kept, left = h[:, : self.kept], h[:, self.kept :]
        mean, log_scale = self._law(kept)
        return kept, (left - mean) * torch.exp(-log_scale), -precise(log_scale).flatten(1).sum(1)

    @override
    def inverse(self, h: Tensor, u: Tensor, x: Tensor | None = None) -> Tensor:
        mean, log_scale = self._law(h)
        return torch.cat([h, torch.addcmul(mean, log_scale.exp(), u)], 1)

    def _law(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.prior(kept).chunk(2, 1)
        return mean, soft_clamp(raw, self.bound)


def _affine(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear map of the channels, dimension 1, plus a bias.

    Under autocast it stays in the precision of its arguments: only networks can round without changing the density.
    """
    dtype = torch.promote_types(h.dtype, weight.dtype)
    h, weight, bias = h.to(dtype), weight.to(dtype), bias.to(dtype)
    with torch.autocast(h.device.type, enabled=False):
        if h.ndim == 2:
            return F.linear(h, weight, bias)
        return F.conv2d(h, weight[:, :, None, None], bias)
