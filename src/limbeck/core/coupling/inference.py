"""Both inference programs on the same observations: flows are distilled along the way from data to latents."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from limbeck.choices import check_choice
from limbeck.core.coupling.coupling import Request
from limbeck.core.coupling.depth import Depth, Stepped, depth_map, is_step
from limbeck.core.coupling.sifting import sifted_samples
from limbeck.core.first_parameter import first_parameter
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.trace import KEEP_NOISE, KEEP_NOTHING, KEEP_VALUE, Kind, Trace, keep_fields
from limbeck.errors import MatchError

__all__ = ["Alignable", "Observed", "SharedObservations"]

Observed = Literal["data", "teacher", "mixed", "student"]
"""Whose rows both models infer from; ``"mixed"``: each batch has some rows of the data and some of the teacher's."""


@runtime_checkable
class Alignable(Protocol):
    """A model that can start with the coordinates of another, so that comparing element by element makes sense."""

    def align_with(self, teacher: DGM) -> None:
        """Take over the teacher's coordinates; without effect on a model that was trained or aligned before.

        Raises:
            MatchError: it cannot; the message says why.
        """
        ...


@dataclass
class SharedObservations:
    r"""Both models infer from the same rows, given the same noise: the flows' own couplings ([F] Eq. 12, 13).

    On data it is latent distillation as in the paper. On the teacher's samples :math:`x = t^{-1}(z)` no data are
    needed, and comparing :math:`s(x)` with :math:`z` has the aim of [F] Eq. 14 without the student's inverse. Mixed
    rows add the teacher's samples to a table with too few rows. On the student's own samples gradients pass through the
    frozen teacher: reverse KL.

    Attributes:
        observed: ``"data"``, ``"teacher"``, ``"mixed"`` or ``"student"``: whose rows.
        share: fraction of mixed rows that come from the teacher, in (0, 1).
        depth: which steps of models that have steps belong together; see :mod:`limbeck.core.coupling.depth`.
        pool: number of the teacher's rows that are drawn once, before the training, and used throughout; 0 draws fresh
            ones in each step. For teachers that are slow to sample, or whose samples must be sifted.
        trim: fraction of the pool that is left out because the teacher itself finds it least likely. For about one
            sample in hundreds or thousands, the inverse of a deep autoregressive flow multiplies scales until the
            sample is far from anything that the flow was trained on (1e8, even 1e23, where the data reach 30). One such
            row outweighs all others of its batch, and clipping the gradient's norm then keeps nothing but that row.
        align: whether a fresh student takes over the teacher's coordinates before the training.
    """

    observed: Observed = "data"
    depth: Depth = "steps"
    pool: int = 0
    align: bool = True
    share: float = 0.5
    trim: float = 0.002

    def __post_init__(self) -> None:
        # Not a field: the rows that were drawn are not part of the coupling's identity.
        self._rows: Tensor | None = None
        check_choice(MatchError, "observed", self.observed, Observed)
        if not self.depth:
            raise MatchError(
                "depth names no steps; give pairs such as [(1, 1)], 'steps' or 'levels', or take lkd, which compares "
                "the latents alone"
            )
        if not 0.0 < self.share < 1.0:
            raise MatchError(f"share is the part of mixed rows that the teacher draws, in (0, 1), not {self.share}")
        if not 0.0 <= self.trim < 1.0:
            raise MatchError(f"trim is the part of the pool that is left out, in [0, 1), not {self.trim}")
        if self.pool < 0 or (self.pool and self.observed not in ("teacher", "mixed")):
            raise MatchError(f"pool is a number of the teacher's samples, not {self.pool} rows of {self.observed!r}")

    @property
    def runs_inference(self) -> bool:
        """See :class:`~limbeck.core.coupling.Observing`."""
        return True

    @property
    def needs_data(self) -> bool:
        """See :class:`~limbeck.core.coupling.Observing`."""
        return self.observed in ("data", "mixed")

    def prepare(self, teacher: DGM, student: DGM, x: Tensor | None = None) -> None:
        """Align the student, and draw the pool anew, so that it depends on nothing but the training's own seed.

        See :class:`~limbeck.core.coupling.Preparable`.
        """
        if self.align and isinstance(student, Alignable):
            student.align_with(teacher)
        if not self.pool:
            return
        if x is not None:
            raise MatchError("a pool of samples cannot be asked for conditioning inputs; use pool=0")
        self._rows = sifted_samples(teacher, self.pool, self.trim)

    def __call__(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """Run both; see :class:`~limbeck.core.coupling.Coupling`."""
        names = _names(teacher, student, self.depth)

        def keep(name: str, kind: Kind) -> int:
            own = KEEP_NOISE if kind is Kind.LATENT else KEEP_NOTHING
            if names is not None and is_step(name):
                return own | request.keep_teacher(names[name], kind) if name in names else own
            return own | request.keep_teacher(name, kind)

        y = self._observations(teacher, student, request)
        with frozen(teacher) if self.observed != "student" else _differentiable(teacher):
            taught = teacher.trace_inference(y, request.x, keep=keep, generator=request.generator)
        taught = _renamed(taught, names or {})
        learned = student.trace_inference(
            y,
            request.x,
            noise={request.rename(name, Kind.LATENT): value for name, value in taught.noise.items()},
            laws={request.rename(name, Kind.LATENT): law for name, law in taught.laws.items()},
            keep=request.keep_student(taught),
            generator=request.generator,
        )
        return taught, learned

    def _observations(self, teacher: DGM, student: DGM, request: Request) -> Tensor:
        if self.observed == "student":
            return student.join_targets(_sampled(student, request))
        if self.observed == "teacher":
            return self._taught(teacher, request)
        if request.y is None:
            raise MatchError("both models infer from data, but there are none; pass data=... or batch=...")
        if self.observed == "data":
            return teacher.observed(request.y, request.generator)
        own = len(request.y) - round(self.share * len(request.y))
        data, x = request.y[:own], request.x
        asked = dataclasses.replace(request, batch_size=len(request.y) - own, x=None if x is None else x[own:])
        return torch.cat([teacher.observed(data, request.generator), self._taught(teacher, asked)])

    def _taught(self, teacher: DGM, request: Request) -> Tensor:
        """Rows that the teacher generates."""
        if self._rows is not None:
            like = first_parameter(teacher)  # the precision of a training may be another than that of its preparation
            self._rows = self._rows.to(like.device, like.dtype if self._rows.is_floating_point() else None)
            count = request.batch_size or 0
            device = None if request.generator is None else request.generator.device
            rows = torch.randint(len(self._rows), (count,), generator=request.generator, device=device)
            return self._rows[rows.to(self._rows.device)]
        if self.pool:
            raise MatchError("the pool of samples is drawn by objective.prepare(teacher, student); call it first")
        with frozen(teacher):
            return teacher.join_targets(_sampled(teacher, request))


def _sampled(model: DGM, request: Request) -> dict[str, Tensor]:
    keep = keep_fields(KEEP_VALUE, Kind.TARGET)
    return model.trace(request.batch_size, request.x, keep=keep, generator=request.generator).targets


def _names(teacher: DGM, student: DGM, depth: Depth) -> dict[str, str] | None:
    if isinstance(teacher, Stepped) and isinstance(student, Stepped):
        return depth_map(teacher.step_counts, student.step_counts, depth)
    return None


def _renamed(trace: Trace, names: dict[str, str]) -> Trace:
    """The teacher's steps under the names of the student's steps that correspond to them."""
    sites = {}
    for name, site in trace.items():
        own = names.get(name, name)
        sites[own] = site if own == name else dataclasses.replace(site, name=own)
    return Trace(sites, trace.batch_size, trace.declared)


@contextmanager
def _differentiable(teacher: DGM) -> Iterator[None]:
    """The teacher in eval mode; gradients pass through it but not into it."""
    trained = [parameter for parameter in teacher.parameters() if parameter.requires_grad]
    modes = [module for module in teacher.modules() if module.training]
    teacher.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for module in modes:
            module.training = True
