"""Networks from a student's feature to a teacher's: what regressions and variational distributions predict with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from limbeck.errors import DivergenceError

__all__ = ["Grid", "MeanNetwork", "Resize", "of_one_size"]

_CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose1d | nn.ConvTranspose2d]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}
_LARGEST_KERNEL = 8


class Grid:
    """Some positions of a map, at equal distances in each spatial dimension.

    Args:
        strides: the distances, one per spatial dimension; empty for all positions.
        offsets: where the grid begins, in [0, stride), one per spatial dimension.
    """

    def __init__(self, strides: Sequence[int] = (), offsets: Sequence[int] = ()) -> None:
        self.places: tuple[slice, ...] = tuple(
            slice(offset, None, stride) for offset, stride in zip(offsets, strides, strict=True)
        )
        self.share = float(math.prod(strides))
        """How many positions of the map each one of the grid stands for, on average over all offsets."""

    @classmethod
    def drawn(cls, size: Sequence[int], positions: int | None) -> Grid:
        """A grid of at most the given number of positions with random offsets: every position is equally likely.

        Args:
            size: of the map, (height, width) or (length,); empty for a vector.
            positions: the largest number of positions, on average over the offsets; ``None`` for all.
        """
        if positions is None or math.prod(size) <= positions:
            return cls()
        strides = [1] * len(size)
        while math.prod(size) > positions * math.prod(strides):
            longest = max(range(len(size)), key=lambda i: size[i] / strides[i])
            strides[longest] += 1
        return cls(strides, [int(torch.randint(stride, ())) for stride in strides])

    def of(self, feature: Tensor) -> Tensor:
        """The channels at each position.

        Args:
            feature: shape (batch, channels, ...).

        Returns:
            Shape (batch, positions, channels), contiguous; one position for a vector.
        """
        if feature.ndim == 2:
            return feature.unsqueeze(1)
        if feature.ndim == 4 and feature.is_contiguous(memory_format=torch.channels_last):
            # Slice in this memory layout, so that the gradient has it too: it is added to that of later layers.
            return feature.permute(0, 2, 3, 1)[(slice(None), *self.places)].flatten(1, 2).contiguous()
        return feature[(slice(None), slice(None), *self.places)].flatten(2).transpose(1, 2).contiguous()


class Resize(nn.Module):
    """Maps of another size: averages where it shrinks, linear interpolation where it grows.

    Args:
        size: (height, width) or (length,) of the result.
    """

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)

    @override
    def extra_repr(self) -> str:
        """The size."""
        return f"size={self.size}"

    @override
    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, ...) to (batch, channels, *size)."""
        smaller = [min(old, new) for old, new in zip(x.shape[2:], self.size, strict=True)]
        pool: Any = F.adaptive_avg_pool1d if len(smaller) == 1 else F.adaptive_avg_pool2d
        x = pool(x, smaller)
        if tuple(smaller) == self.size:
            return x
        return F.interpolate(x, self.size, mode="linear" if len(smaller) == 1 else "bilinear")


def of_one_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps, the larger one averaged to the smaller one's size.

    Args:
        a: shape (batch, channels, ...).
        b: shape (batch, channels, ...), with the same number of spatial dimensions.
    """
    if a.shape[2:] == b.shape[2:]:
        return a, b
    smaller = Resize(tuple(map(min, a.shape[2:], b.shape[2:])))
    return smaller(a), smaller(b)


class MeanNetwork(nn.Module):
    """Predicts a teacher's feature from a student's: mu(s) in [V] Eq. 5 and 6, the regressor of FitNets.

    Which layers it has follows from the two shapes ([V] Sec. 2.1, App. A.2):

    * maps of one size: 1x1 convolutions with batch normalisation and ReLU between them, computed as matrix products of
      the channels at each position;
    * maps of unequal size: the first of these is a convolution or a transposed convolution with a stride of the ratio
      and a kernel of twice that (less 1 where the ratio is odd); where neither size divides the other, the student's
      map is averaged or interpolated to the teacher's size first;
    * a vector and a vector: one matrix;
    * a vector and a map: a transposed convolution from one position to 4x4, then others with kernel 4 and stride 2,
      each of which doubles the size, without anything non-linear. For sizes other than 4 * 2^k, the first kernel is the
      size, halved while it is even and above 4 (7 for 7, 14, 28; 1 for 1, 2 for 2); if that would be more than 8, the
      first kernel is 4, and the last map, which is then larger, is averaged to the size;
    * a map and a vector: the map's average, and one matrix.

    Args:
        student: shape of one row of the student's feature, (channels, ...).
        teacher: shape of one row of the teacher's.
        outputs: numbers predicted for each of the teacher's.
        layers: of the networks for maps, at least 1, which is linear.
        hidden: channels between the layers, as a multiple of the teacher's.
        bias: whether the last layer has one.

    Raises:
        DivergenceError: no rule above leads from the one to the other.
    """

    def __init__(
        self,
        student: Sequence[int],
        teacher: Sequence[int],
        outputs: int = 1,
        layers: int = 1,
        hidden: float = 1.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        student, teacher = tuple(student), tuple(teacher)
        (channels, *size), (wanted, *target) = student, teacher
        if max(len(size), len(target)) > max(_CONVOLUTIONS) or (size and target and len(size) != len(target)):
            raise DivergenceError(
                f"no network leads from a student's feature of shape {student} (a row) to a teacher's of shape "
                f"{teacher}: both must be vectors, (channels,), maps, (channels, height, width), or sequences, "
                "(channels, length)"
            )
        self.spatial: nn.Module = nn.Identity()
        """Turns the student's feature into one at the teacher's positions; all of it, if the feature is a vector."""
        if target and not size:
            self.spatial, self.pointwise = _grown(channels, wanted, wanted * outputs, target, bias), nn.Sequential()
            return
        if not target:
            self.spatial = _Average() if size else nn.Identity()
            self.pointwise = nn.Sequential(nn.Conv2d(channels, wanted * outputs, 1, bias=bias))
            return
        between = max(1, round(hidden * wanted))
        widths = [channels, *[between] * (layers - 1), wanted * outputs]
        steps: list[nn.Module] = []
        for index, (narrow, wide) in enumerate(itertools.pairwise(widths)):
            last = index == layers - 1
            biased = bias and last  # the others are followed by a batch normalisation, which cancels a bias
            resized = _resized(narrow, wide, size, target, biased) if index == 0 else None
            if resized is not None:
                self.spatial = resized
            if resized is None or isinstance(resized, Resize):
                steps.append(nn.Conv2d(narrow, wide, 1, bias=biased))
            if not last:
                steps += [nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
        self.pointwise = nn.Sequential(*steps)

    @property
    def positionwise(self) -> bool:
        """Whether some layers see one position at a time, so that fewer positions are less work."""
        return len(self.pointwise) > 0

    @override
    def forward(self, feature: Tensor, grid: Grid | None = None) -> Tensor:
        """The prediction at some or all positions.

        Args:
            feature: shape (batch, channels, ...).
            grid: which of the teacher's positions; by default all.

        Returns:
            Shape (batch, positions, channels of the teacher's x outputs).
        """
        rows = (grid or Grid()).of(self.spatial(feature))
        if not self.positionwise:
            return rows
        # Seen as maps of one column, channels last: convolutions of this layout are twice as fast as products on a CPU.
        maps: Tensor = self.pointwise(rows.unsqueeze(2).movedim(-1, 1))
        return maps.squeeze(-1).transpose(1, 2)


class _Average(nn.Module):
    """(batch, channels, ...) to (batch, channels)."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2)


def _resized(narrow: int, wide: int, size: Sequence[int], target: Sequence[int], bias: bool) -> nn.Module | None:
    """A first layer between maps of unequal size, or none where they are equal."""
    if list(size) == list(target):
        return None
    if all(a % b == 0 for a, b in zip(size, target, strict=True)):
        rates, layers = [a // b for a, b in zip(size, target, strict=True)], _CONVOLUTIONS
    elif all(b % a == 0 for a, b in zip(size, target, strict=True)):
        rates, layers = [b // a for a, b in zip(size, target, strict=True)], _TRANSPOSED  # type: ignore[assignment]
    else:
        return Resize(target)
    # Twice the ratio, so that neighbouring windows overlap; with this padding the sizes come out exactly.
    kernels, paddings = [2 * rate - rate % 2 for rate in rates], [rate // 2 for rate in rates]
    return layers[len(size)](narrow, wide, tuple(kernels), tuple(rates), tuple(paddings), bias=bias)  # type: ignore[arg-type]


def _grown(channels: int, between: int, outputs: int, target: Sequence[int], bias: bool) -> nn.Module:
    """Transposed convolutions from one position to a map ([V] App. A.2)."""
    layer = _TRANSPOSED[len(target)]
    first, doublings = tuple(target), 0
    while max(first) > 4 and all(side % 2 == 0 for side in first):
        first, doublings = tuple(side // 2 for side in first), doublings + 1
    exact = max(first) <= _LARGEST_KERNEL
    if not exact:
        first, doublings = (4,) * len(target), math.ceil(math.log2(max(target) / 4))
    widths = [channels, *[between] * doublings, outputs]
    layers: list[nn.Module] = [nn.Unflatten(1, (channels, *[1] * len(target)))]
    for index, (narrow, wide) in enumerate(itertools.pairwise(widths)):
        biased = bias or index < doublings
        if index == 0:
            layers.append(layer(narrow, wide, first, bias=biased))  # type: ignore[arg-type]
        else:
            layers.append(layer(narrow, wide, 4, stride=2, padding=1, bias=biased))
    return nn.Sequential(*layers, *([] if exact else [Resize(target)]))
