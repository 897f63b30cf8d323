"""Row-orthonormal matrices that turn the teacher's normal noise into the student's: fixed, random or learned."""

from __future__ import annotations

import copy
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal
from typing_extensions import override

from limbeck.core.coupling.noise_layout import Arrangement, NoiseLayout, arranged
from limbeck.core.precision import Precise, precise
from limbeck.errors import MatchError

__all__ = ["MapKind", "NoiseMap", "Start"]

MapKind = Literal["arrange", "position", "random", "learned"]
"""How the teacher's noise becomes the student's; see :class:`~limbeck.core.coupling.MappedNoise`."""

Start = Literal["arrange", "position", "random"]
"""The initial value of a learned map."""


class NoiseMap(Precise):
    r"""The matrix R of :math:`\epsilon_S = R \epsilon`, with :math:`R R^T = I`, so that both are standard normal.

    A learned R is :math:`R_0 (I - B)^{-1} (I + B)` cut to its first rows, with :math:`B = A / (2 \sqrt n)`
    skew-symmetric and initially zero (Cayley's map): orthonormal to rounding at every step, without a penalty. n is the
    number of the teacher's noise values. A step of Adam changes all entries of A by about the learning rate; the
    largest singular value of a matrix of random signs is about :math:`2 \sqrt n`, so with this factor a step rotates by
    about twice the learning rate, in radians, for any n.

    Args:
        teacher: layout of the teacher's noise.
        student: layout of the student's.
        free: positions in the student's row that may follow the teacher, ascending, shape (places,).
        kind: of map.
        start: the initial value of a learned map.
        seed: of a random map.

    Raises:
        MatchError: the teacher has no noise to share, or the student has no position for it.

    Example:
        >>> from limbeck.core.reparam import Law
        >>> one, two = (NoiseLayout({"z": (n,)}, {"z": Law.NORMAL}) for n in (3, 2))
        >>> map = NoiseMap(one, two, torch.arange(2), "random")
        >>> rotated = map(torch.randn(5, 3).double())
        >>> rotated.shape, torch.allclose(map.matrix @ map.matrix.T, torch.eye(2).double())
        (torch.Size([5, 2]), True)
    """

    fixed: Tensor
    """The matrix of a map that is not learned."""
    places: Tensor
    """Positions in the student's row that the map fills, ascending, shape (rows,)."""

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
        if kind == "learned":
            self.learned = _rotated(matrix, seed)
        else:
            self.register_buffer("fixed", matrix)

    @override
    def __getstate__(self) -> dict[str, Any]:
        """Without the learned map, whose class torch makes up and cannot pickle: its numbers instead."""
        state = dict(self.__dict__)
        learned = self.learned
        if learned is not None:
            state["_modules"] = {name: module for name, module in self._modules.items() if name != "learned"}
            state["learned_state"] = {name: tensor.detach() for name, tensor in learned.state_dict().items()}
            state["learned_needs_grad"] = all(parameter.requires_grad for parameter in learned.parameters())
        return state

    @override
    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the learned map again."""
        state = dict(state)
        numbers, needs_grad = state.pop("learned_state", None), state.pop("learned_needs_grad", True)
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if numbers is not None:
            base = numbers["parametrizations.weight.1.base"]
            self.learned = _rotated(torch.eye(len(base), dtype=torch.float64)[: len(self.places)], 0).to(base)
            self.learned.load_state_dict(numbers)
            self.learned.requires_grad_(needs_grad).train(self.training)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy without making the learned map again."""
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__ = copy.deepcopy(self.__dict__, memo)
        return made

    @property
    def matrix(self) -> Tensor:
        """R, shape (rows, columns), rows <= columns."""
        return self.fixed if self.learned is None else self.learned.weight

    @override
    def forward(self, noise: Tensor) -> Tensor:
        """Apply the map to the teacher's noise.

        Args:
            noise: standard normals, shape (batch, columns).

        Returns:
            Standard normals, shape (batch, rows), in half precision if the noise is.
        """
        # Mixed precision would round the matrix, whose rows would then no longer be orthonormal.
        with torch.autocast(noise.device.type, enabled=False):
            matrix = self.matrix  # once: a learned one is computed each time
            mapped = noise.to(matrix.dtype) @ matrix.T
        return mapped if precise(noise) is noise else mapped.to(noise.dtype)


def _rotated(matrix: Tensor, seed: int) -> nn.Linear:
    """A learned matrix with orthonormal rows that starts as a given one, shape (rows, columns)."""
    rows, columns = matrix.shape
    learned = nn.Linear(columns, rows, bias=False, dtype=torch.float64, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        learned.weight.copy_(matrix)
    parametrize.register_parametrization(learned, "weight", _Scaled(columns**-0.5))
    orthogonal(learned, orthogonal_map="cayley")
    with torch.random.fork_rng(devices=[]):  # torch completes the rows to a basis by drawing the rest
        torch.manual_seed(seed)
        learned.weight = matrix
    parts: Any = learned.parametrizations
    rotation = parts.weight[1]
    rotation.base = rotation.base.contiguous()  # torch leaves it transposed, which safetensors refuses
    return learned


class _Scaled(nn.Module):
    """Multiply by a constant below 1: the optimiser sees larger weights, so that its steps are relatively smaller."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    @override
    def forward(self, weight: Tensor) -> Tensor:
        return self.factor * weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / self.factor


def _random(rows: int, columns: int, seed: int) -> Tensor:
    """The first rows of a uniformly random rotation (Mezzadri 2007: QR with the signs of R's diagonal)."""
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(columns, columns, dtype=torch.float64, generator=generator))
    signed: Tensor = q * r.diagonal().sign()
    return signed.T[:rows]
