"""The noise of a model's latents as one flat row of numbers, and how two such rows correspond."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.reparam import Law, convert
from limbeck.core.trace import KEEP_NOISE, Kind, Trace, keep_fields
from limbeck.errors import LimbeckError

__all__ = ["Arrangement", "NoiseLayout", "arranged"]

Arrangement = Literal["arrange", "position"]
"""``"arrange"``: in the order of the program. ``"position"``: a number keeps its position in the image."""

_LATENT_NOISE = keep_fields(KEEP_NOISE, Kind.LATENT)


@dataclass(frozen=True)
class NoiseLayout:
    """The noise of a model's latents, in the order of the program, each flattened.

    Attributes:
        shapes: name of a latent to the shape of one row of its noise.
        laws: name of a latent to the law of its noise.
    """

    shapes: dict[str, tuple[int, ...]]
    laws: dict[str, Law]

    @classmethod
    def of(cls, model: DGM, x: Tensor | None = None) -> NoiseLayout:
        """Read the layout off one run of two rows, which leaves the model and every generator as they were.

        Args:
            model: any model.
            x: conditioning input, shape (rows, ...), if the model has one; its first two rows are used.
        """
        rows = None if x is None else x[:2]
        with frozen(model):
            trace = model.trace(2 if rows is None else None, rows, keep=_LATENT_NOISE, generator=torch.Generator())
        return cls.of_trace(trace)

    @classmethod
    def of_trace(cls, trace: Trace) -> NoiseLayout:
        """The layout of a run whose latents' noise was kept."""
        noise = {site.name: site.noise for site in trace.of_kind(Kind.LATENT) if site.noise is not None}
        return cls({name: tuple(eps.shape[1:]) for name, eps in noise.items()},
                   {name: trace[name].law for name in noise})  # fmt: skip

    @property
    def sizes(self) -> dict[str, int]:
        """Name of a latent to its count of numbers per row."""
        return {name: math.prod(shape) for name, shape in self.shapes.items()}

    @property
    def size(self) -> int:
        """Count of numbers per row, over all latents."""
        return sum(self.sizes.values())

    def where(self, names: Sequence[str]) -> Tensor:
        """Positions of the named latents' numbers in the flat row, ascending, shape (count,)."""
        bounds = itertools.pairwise(itertools.accumulate(self.sizes.values(), initial=0))
        parts = [torch.arange(a, b) for name, (a, b) in zip(self.shapes, bounds, strict=True) if name in names]
        return torch.cat(parts) if parts else torch.arange(0)

    def flatten(self, noise: Mapping[str, Tensor]) -> Tensor:
        """The latents' noise as standard normals side by side.

        Args:
            noise: name to noise of the latent's own law, shape (batch, *shape).

        Returns:
            Shape (batch, size).

        Raises:
            ReparameterizationError: a law cannot be turned into normals.
        """
        # Not flatten(1): a latent may be one number a row, shape (batch,).
        return torch.cat([self._converted(name, eps, True).reshape(len(eps), -1) for name, eps in noise.items()], 1)

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """The inverse of :meth:`flatten`.

        Args:
            flat: standard normals, shape (batch, size).

        Returns:
            Name to noise of the latent's own law, shape (batch, *shape).
        """
        parts = torch.split(flat, list(self.sizes.values()), 1)
        return {
            name: self._converted(name, part.reshape(len(part), *self.shapes[name]), False)
            for name, part in zip(self.shapes, parts, strict=True)
        }

    def _converted(self, name: str, noise: Tensor, to_normal: bool) -> Tensor:
        law = self.laws[name]
        if law is Law.NONE:  # an empty tensor
            return noise
        try:
            return convert(noise, law, Law.NORMAL) if to_normal else convert(noise, Law.NORMAL, law)
        except LimbeckError as error:
            raise type(error)(f"site {name!r}: {error}") from None


def arranged(teacher: NoiseLayout, student: NoiseLayout, free: Tensor, how: Arrangement) -> tuple[Tensor, Tensor]:
    """Which number of the teacher's row becomes which number of the student's; as many as possible, each at most once.

    ``"arrange"`` follows the order of the programs: the first becomes the first, the second the second. Where the
    student has too few positions, the last of the teacher's numbers are lost, since the first sites of a program have
    the most that depends on them. ``"position"`` keeps the same numbers. First, each goes to its counterpart: the same
    channel of a latent on the same grid. The others go to the positions that are nearest in size of the grid and in
    place, by the assignment of least total cost. Latents are read as (channels, *grid); a vector is all channels on a
    grid of one cell.

    Args:
        teacher: layout of the teacher's noise.
        student: layout of the student's.
        free: positions in the student's row that may be used, ascending, shape (places,).
        how: the arrangement.

    Returns:
        Positions in the teacher's row and the corresponding ones in the student's, the latter ascending; shape
        (smaller count,).

    Example:
        >>> one, two = (NoiseLayout({"z": (n,)}, {"z": Law.NORMAL}) for n in (3, 2))
        >>> arranged(one, two, torch.arange(2), "arrange")
        (tensor([0, 1]), tensor([0, 1]))
    """
    count = min(teacher.size, len(free))
    if how == "arrange":
        return torch.arange(count), free[:count]
    equal = _equal_places(teacher, student, set(free.tolist()))
    pairs = {source: place for source, place in equal.items() if source < count}
    taken = set(pairs.values())
    left = [source for source in range(count) if source not in pairs]
    open_places = [place for place in free.tolist() if place not in taken]
    if left and open_places:
        pairs.update(_nearest_places(_places(teacher)[left], _places(student)[open_places], left, open_places))
    both = sorted((place, source) for source, place in pairs.items())
    return torch.tensor([source for _, source in both]), torch.tensor([place for place, _ in both])


def _equal_places(teacher: NoiseLayout, student: NoiseLayout, free: set[int]) -> dict[int, int]:
    """Teacher's position to student's for latents on the same grid, up to the smaller number of channels."""
    pairs: dict[int, int] = {}
    unused = list(student.shapes)
    for name, shape in teacher.shapes.items():
        like = next((other for other in unused if student.shapes[other][1:] == shape[1:]), None)
        if like is None:
            continue
        unused.remove(like)
        both = zip(teacher.where([name]).tolist(), student.where([like]).tolist(), strict=False)
        pairs.update((source, place) for source, place in both if place in free)
    return pairs


def _places(layout: NoiseLayout) -> Tensor:
    """One row per number: log2 of the grid's cells on each axis, position in [0, 1] on each axis, and the channel."""
    axes = max((len(shape) - 1 for shape in layout.shapes.values()), default=0)
    rows = []
    for shape in layout.shapes.values():
        grid = (*shape[1:], *([1] * (max(axes, _AXES) - len(shape[1:]))))[:_AXES] if shape else (1,) * _AXES
        channels = shape[0] if shape else 1
        for place in itertools.product(range(channels), *(range(cells) for cells in grid)):
            levels = [math.log2(cells) for cells in grid]
            position = [(index + 0.5) / cells for index, cells in zip(place[1:], grid, strict=True)]
            rows.append([*levels, *position, float(place[0])])
    return torch.tensor(rows, dtype=torch.float64)


_AXES = 3


def _nearest_places(sources: Tensor, places: Tensor, left: list[int], open_places: list[int]) -> dict[int, int]:
    # Imported here because scipy.optimize costs tens of milliseconds that most programs need not pay.
    from scipy.optimize import linear_sum_assignment

    coordinates = slice(0, 2 * _AXES)
    cost = torch.cdist(sources[:, coordinates], places[:, coordinates]) ** 2
    # Ties are broken by channel, in the same way in every cell, so that a convolution can use the result.
    order = torch.arange(len(places), dtype=torch.float64) / len(places)
    cost -= 1e-6 * sources[:, -1:] * order
    rows, columns = linear_sum_assignment(cost.numpy())
    return {left[row]: open_places[column] for row, column in zip(rows, columns, strict=True)}
