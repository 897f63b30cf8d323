"""A smaller U-Net's first weights from a larger one's: the same channels in every layer ([D] Sec. 3.2, in part)."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.errors import ModelError
from limbeck.models.diffusion.unet_layout import FIXED, FREQUENCIES, Axis, Segment, unet_layout

__all__ = ["Inherited", "inherit"]


@dataclass(frozen=True)
class Inherited:
    """How much of a network was taken over from another.

    Attributes:
        whole: numbers in tensors of one size, taken as they are.
        part: numbers taken from larger tensors.
        fresh: numbers that stay what they were.
    """

    whole: int
    part: int
    fresh: int

    @property
    def share(self) -> float:
        """Of all numbers, those that were taken over."""
        return (self.whole + self.part) / max(1, self.whole + self.part + self.fresh)

    @override
    def __str__(self) -> str:
        total = self.whole + self.part + self.fresh
        if self.part == self.fresh == 0:
            return f"all {total:,} weights of the network are the teacher's"
        return (
            f"{100 * self.share:.0f} % of the network's {total:,} weights come from the teacher's: {self.whole:,} as "
            f"they are, {self.part:,} chosen from larger layers; {self.fresh:,} are fresh"
        )


@torch.no_grad()
def inherit(student: Any, teacher: Any) -> Inherited:
    """Take over a U-Net's weights, or where the student's is smaller a part of them.

    Of every set of channels those of largest norm are kept, the same ones in the layers that write and that read them,
    and as many in each group of a group norm; whole heads of an attention. The rows of the time's frequencies go to the
    nearest frequency that the student has. What a layer reads is not scaled up for the channels that are gone: the
    norms behind it see to that, and the measured loss was no better.

    Blocks and layers are found by their place: levels from the finest on, layers evenly spread. Of 8 x 8 digits, a
    student of half the channels that starts so is after 150 steps where one that starts at random is after 500.

    Args:
        student: a ``UNet2DModel``, changed in place.
        teacher: another one.

    Raises:
        ModelError: nothing fits.
    """
    own, theirs = student.state_dict(), teacher.state_dict()
    if {n: t.shape for n, t in own.items()} == {n: t.shape for n, t in theirs.items()}:
        student.load_state_dict(theirs)
        return Inherited(sum(tensor.numel() for tensor in own.values()), 0, 0)
    small, large = unet_layout(student), unet_layout(teacher)
    choice = _Choice(teacher, student, large, theirs)
    whole = part = fresh = 0
    for name, tensor in own.items():
        source = _name_in(name, student, teacher)
        found = theirs.get(source) if source else None
        maps = None if found is None else choice.maps(small.get(name), large.get(source or ""), tensor, found)
        if found is None or maps is None:
            fresh += tensor.numel()
            continue
        taken = found.double()
        covered = torch.ones((), dtype=torch.bool)
        for axis, matrix in enumerate(maps):
            taken = torch.tensordot(matrix.to(taken.device), taken, ([1], [axis])).movedim(0, axis)
            covered = covered.unsqueeze(-1) & matrix.any(1)
        covered = covered.to(tensor.device)
        tensor.copy_(torch.where(covered, taken.to(tensor.device, tensor.dtype), tensor))
        count = int(covered.sum())
        if tensor.shape == found.shape and all(_is_identity(matrix) for matrix in maps):
            whole += count
        else:
            part += count
        fresh += tensor.numel() - count
    result = Inherited(whole, part, fresh)
    if result.share == 0:
        raise ModelError("the networks have nothing in common: no layer of one fits into the other; start at random")
    return result


def _is_identity(matrix: Tensor) -> bool:
    return matrix.shape[0] == matrix.shape[1] and bool((matrix == torch.eye(len(matrix), dtype=matrix.dtype)).all())


class _Choice:
    """Which of the teacher's channels the student keeps, and with which weights."""

    def __init__(
        self, teacher: Any, student: Any, layout: Mapping[str, tuple[Axis, ...]], weights: Mapping[str, Tensor]
    ) -> None:
        self.norms = _norms(layout, weights)
        groups = [unet.config.norm_num_groups or 1 for unet in (teacher, student)]
        self.groups = groups[0] if groups[0] == groups[1] else 1
        self.shifts = [unet.config.freq_shift for unet in (teacher, student)]
        self.kept: dict[tuple[str, int, int], Tensor] = {}

    def maps(
        self, small: tuple[Axis, ...] | None, large: tuple[Axis, ...] | None, tensor: Tensor, source: Tensor
    ) -> list[Tensor] | None:
        """For each axis a matrix from the teacher's channels to the student's; ``None`` if the two do not fit."""
        if small is None or large is None:
            same = tensor.shape == source.shape
            return [torch.eye(side, dtype=torch.float64) for side in tensor.shape] if same else None
        found = []
        for mine, other in zip(small, large, strict=True):
            if len(mine) != len(other):
                return None
            blocks = []
            for segment, wider in zip(mine, other, strict=True):
                if FIXED in (segment.space, wider.space) and segment.size != wider.size:
                    return None
                blocks.append(self.matrix(segment, wider))
            whole: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
            found.append(whole)
        return found

    def matrix(self, small: Segment, large: Segment) -> Tensor:
        """From the teacher's channels to the student's, shape (student's, teacher's)."""
        matrix = torch.zeros(small.size, large.size, dtype=torch.float64)
        if large.space == FREQUENCIES:
            mine, other = (
                _frequencies(n, shift) for n, shift in zip((small.size, large.size), self.shifts[::-1], strict=True)
            )
            nearest = (other[None] - mine[:, None]).abs().argmin(0)
            matrix[nearest, torch.arange(large.size)] = 1.0
            return matrix
        kept = self.keep(small, large)
        matrix[torch.arange(len(kept)), kept] = 1.0
        return matrix

    def keep(self, small: Segment, large: Segment) -> Tensor:
        """Indices of the teacher's channels, in order; all of them if the student has as many or more."""
        if small.size >= large.size:
            return torch.arange(large.size)
        key = (large.space, large.size, small.size)
        if key not in self.kept:
            unit = large.unit if small.unit == large.unit else 1
            groups = self.groups if small.size % self.groups == large.size % self.groups == 0 and unit == 1 else 1
            norms = self.norms[large.space].view(groups, -1, unit).sum(2)
            count = small.size // unit // groups
            best = norms.topk(count, dim=1).indices.sort(1).values
            units = (best + torch.arange(groups)[:, None] * norms.shape[1]).flatten()
            self.kept[key] = (units[:, None] * unit + torch.arange(unit)).flatten()
        return self.kept[key]


def _norms(layout: Mapping[str, tuple[Axis, ...]], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Squared norm of all weights that write or read each channel of a space."""
    total: dict[str, Any] = defaultdict(float)
    for name, axes in layout.items():
        for axis, segments in enumerate(axes[:2]):
            others = [other for other in range(weights[name].ndim) if other != axis]
            if not others:
                continue
            squares = weights[name].double().cpu().square().sum(others)
            parts = torch.split(squares, [segment.size for segment in segments])
            for segment, part in zip(segments, parts, strict=True):
                # Each matrix has one say, however large its numbers are.
                total[segment.space] = total[segment.space] + part / squares.mean().clamp_min(1e-30)
    return total


def _frequencies(count: int, shift: float) -> Tensor:
    """Logarithms of the frequencies of a time's sines and cosines."""
    return -math.log(10_000) * torch.arange(count, dtype=torch.float64) / max(count - shift, 1e-9)


def _name_in(name: str, student: Any, teacher: Any) -> str | None:
    """What in the teacher stands where a parameter of the student does; ``None`` for nothing."""
    found = re.fullmatch(r"(down_blocks|up_blocks)\.(\d+)\.(\w+)\.(\d+)\.(.+)", name)
    if found is None:
        return name
    side, level, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    mine, theirs = getattr(student, side), getattr(teacher, side)
    there = level + (len(theirs) - len(mine) if side == "up_blocks" else 0)
    if not 0 <= there < len(theirs):
        return None
    counts = [len(getattr(block, kind, None) or ()) for block in (mine[level], theirs[there])]
    if counts[1] == 0:
        return None
    place = round(layer * (counts[1] - 1) / (counts[0] - 1)) if counts[0] > 1 else 0
    return f"{side}.{there}.{kind}.{place}.{rest}"
