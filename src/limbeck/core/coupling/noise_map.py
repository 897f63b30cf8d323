"""Row-orthonormal matrices that turn the teacher's normal noise into the student's: fixed, random or learned."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal

from limbeck.core.coupling.noise_layout import Arrangement, NoiseLayout, arranged
from limbeck.errors import MatchError

__all__ = ["MapKind", "NoiseMap", "Start"]

MapKind = Literal["arrange", "position", "random", "learned"]
"""How the teacher's noise becomes the student's; see :class:`~limbeck.core.coupling.MappedNoise`."""

Start = Literal["arrange", "position", "random"]
"""Where a learned map begins."""


class NoiseMap(nn.Module):
    r"""The matrix R of :math:`\epsilon_S = R \epsilon`, with :math:`R R^T = I`, so that both are standard normal.

    A learned R is :math:`R_0 (I - B)^{-1} (I + B)` cut to its first rows, with :math:`B = A / (2 \sqrt n)`
    skew-symmetric and zero at first (Cayley's map): orthonormal to rounding at every step, without a penalty. n is the
    teacher's count of numbers. A step of Adam moves all entries of A by about the learning rate; the largest singular
    value of a matrix of random signs is about :math:`2 \sqrt n`, so with this factor the step turns by about twice the
    learning rate, in radians, for any n.

    Args:
        teacher: layout of the teacher's noise.
        student: layout of the student's.
        free: places of the student's row that may follow the teacher, ascending, shape (places,).
        kind: of map.
        start: where a learned map begins.
        seed: of a random one.

    Raises:
        MatchError: the teacher has no noise to share, or the student no place for it.

    Example:
        >>> from limbeck.core.reparam import Law
        >>> one, two = (NoiseLayout({"z": (n,)}, {"z": Law.NORMAL}) for n in (3, 2))
        >>> map = NoiseMap(one, two, torch.arange(2), "random")
        >>> rotated = map(torch.randn(5, 3).double())
        >>> rotated.shape, torch.allclose(map.matrix @ map.matrix.T, torch.eye(2).double())
        (torch.Size([5, 2]), True)
    """

    fixed: Tensor
    """A map that is not learned."""
    places: Tensor
    """Places in the student's row that the map fills, ascending, shape (rows,)."""

    def __init__(
        self,
        teacher: NoiseLayout,
        student: NoiseLayout,
        free: Tensor,
        kind: MapKind,
        start: Start = "position",
        seed: int = 0,
    ) -> None:
        super().__init__()
        begin = start if kind == "learned" else kind
        how: Arrangement = "position" if begin == "position" else "arrange"
        sources, places = arranged(teacher, student, free, how)
        if not len(places):
            raise MatchError(
                f"the teacher's latents have {teacher.size} numbers of noise and the student's {len(free)} places for "
                "them; a noise map needs at least one of each"
            )
        self.register_buffer("places", places)
        rows, columns = len(places), teacher.size
        cut = torch.eye(columns, dtype=torch.float64)[sources]
        matrix = _random(rows, columns, seed) if begin == "random" else cut
        self.learned: nn.Linear | None = None
        if kind != "learned":
            self.register_buffer("fixed", matrix)
            return
        self.learned = nn.Linear(columns, rows, bias=False, dtype=torch.float64, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            self.learned.weight.copy_(matrix)
        parametrize.register_parametrization(self.learned, "weight", _Scaled(columns**-0.5))
        orthogonal(self.learned, orthogonal_map="cayley")
        with torch.random.fork_rng(devices=[]):  # torch completes the rows to a basis by drawing the rest
            torch.manual_seed(seed)
            self.learned.weight = matrix
        parts: Any = self.learned.parametrizations
        rotation = parts.weight[1]
        rotation.base = rotation.base.contiguous()  # torch leaves it transposed, which safetensors refuses

    @property
    def matrix(self) -> Tensor:
        """R, shape (rows, columns), rows <= columns."""
        return self.fixed if self.learned is None else self.learned.weight

    def forward(self, noise: Tensor) -> Tensor:
        """Turn the teacher's noise.

        Args:
            noise: standard normals, shape (batch, columns).

        Returns:
            Standard normals, shape (batch, rows).
        """
        matrix = self.matrix  # once: a learned one is computed each time
        return noise.to(matrix.dtype) @ matrix.T


class _Scaled(nn.Module):
    """Times a constant: what an optimiser sees is larger, and so its steps smaller."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, weight: Tensor) -> Tensor:
        return self.factor * weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / self.factor


def _random(rows: int, columns: int, seed: int) -> Tensor:
    """The first rows of a rotation that is uniform among all (Mezzadri 2007: QR with the signs of R's diagonal)."""
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(columns, columns, dtype=torch.float64, generator=generator))
    signed: Tensor = q * r.diagonal().sign()
    return signed.T[:rows]
