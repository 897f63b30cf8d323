"""The first paper's couplings: noise is shared, or values are, or neither ([U] Alg. 1, Eq. 11 to 15)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from typing_extensions import override

from limbeck.choices import check_choice
from limbeck.core.coupling.coupling import Request
from limbeck.core.coupling.mixing import mixed_targets
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.reparam.discrete_gradient import DiscreteGradient, Relaxation, annealed
from limbeck.core.trace import KEEP_SHARED_NOISE, KEEP_VALUE, Keep, Kind, Trace
from limbeck.errors import MatchError

__all__ = ["IndependentNoise", "SharedNoise", "SharedValues"]

_T = TypeVar("_T")


def _renamed(taught: Trace, given: dict[str, _T], rename: Callable[[str, Kind], str]) -> dict[str, _T]:
    """Values or noises of the teacher's sites under the student's names."""
    names = {name: rename(name, taught[name].kind) for name in given}
    renamed = {names[name]: value for name, value in given.items()}
    if len(renamed) < len(given):
        shared = next(name for name in renamed if list(names.values()).count(name) > 1)
        raise MatchError(
            f"the teacher's sites {', '.join(name for name in names if names[name] == shared)} all belong to the "
            f"student's {shared!r}, which can follow only one of them; give each its own name in the match"
        )
    return renamed


@dataclass(frozen=True, kw_only=True)
class _Drawing:
    """What all couplings share in which the student draws its latents."""

    discrete_gradient: DiscreteGradient = "none"
    temperature: float = 1.0
    final_temperature: float = 0.1

    def __post_init__(self) -> None:
        check_choice(MatchError, "discrete_gradient", self.discrete_gradient, DiscreteGradient)
        for name in ("temperature", "final_temperature"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise MatchError(f"{name} must be positive, not {getattr(self, name)}")

    @property
    def scheduled(self) -> bool:
        """Whether the temperature changes over a training."""
        return self.discrete_gradient == "relaxed" and self.temperature != self.final_temperature

    def relaxation(self, progress: float) -> Relaxation | None:
        """How the student's discrete latents pass gradients at a point of the training."""
        if self.discrete_gradient == "none":
            return None
        return Relaxation(self.discrete_gradient, annealed(self.temperature, self.final_temperature, progress))


@dataclass(frozen=True)
class SharedNoise(_Drawing):
    """Student latents from the teacher's noise, student targets from the teacher's samples ([U] Alg. 1, l. 10-16).

    Attributes:
        discrete_gradient: what the student's discrete latents pass backwards; see
            :mod:`limbeck.core.reparam.discrete_gradient`. The paper's method: ``"none"``.
        temperature: of ``"relaxed"`` latents at the start of training.
        final_temperature: at its end; between them it falls exponentially.
    """

    def __call__(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """Run both; see :class:`Coupling`."""

        def keep(name: str, kind: Kind) -> int:
            return KEEP_SHARED_NOISE[kind] | request.keep_teacher(name, kind)

        with frozen(teacher):
            taught = teacher.trace(request.batch_size, request.x, keep=keep, generator=request.generator)
        learned = student.trace(
            taught.batch_size,
            request.x,
            noise=_renamed(taught, taught.noise, request.rename),
            laws=_renamed(taught, taught.laws, request.rename),
            values=_renamed(taught, taught.targets, request.rename),
            keep=request.keep_student(taught),
            generator=request.generator,
            relaxation=self.relaxation(request.progress),
        )
        return taught, learned


@dataclass(frozen=True)
class SharedValues:
    """The student sees the teacher's latents and targets, so each conditional is compared alone ([U] Eq. 12-15).

    Attributes:
        deterministic: whether the student is also given the values of matched deterministic sites: then each step of a
            deep deterministic program is compared by itself.
    """

    deterministic: bool = False

    def __call__(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """Run both; see :class:`Coupling`."""

        def keep(name: str, kind: Kind) -> int:
            wanted = request.keep_teacher(name, kind)
            if kind is Kind.DETERMINISTIC and not (self.deterministic and wanted):
                return wanted
            return KEEP_VALUE | wanted

        with frozen(teacher):
            taught = teacher.trace(request.batch_size, request.x, keep=keep, generator=request.generator)
        given = taught.values
        if self.deterministic:
            given |= {s.name: s.value for s in taught.of_kind(Kind.DETERMINISTIC) if s.value is not None}
        learned = student.trace(
            taught.batch_size,
            request.x,
            # An empty mapping, not None: a student latent that the teacher lacks must be an error, not a fresh draw.
            noise={},
            values=_renamed(taught, given, request.rename),
            keep=request.keep_student(taught),
            generator=request.generator,
        )
        return taught, learned


@dataclass(frozen=True)
class IndependentNoise(_Drawing):
    """Each side draws its own noise N times, and a target's law is the mixture over the draws ([U] Eq. 11).

    The mixture is exact for one classification target, and a :class:`~torch.distributions.MixtureSameFamily` otherwise,
    which :func:`~limbeck.core.divergence.kl_monte_carlo` can compare.

    Attributes:
        samples: number N of noise draws for each model.
        discrete_gradient: as for :class:`SharedNoise`, with ``temperature`` and ``final_temperature``.
    """

    samples: int = 12

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1:
            raise MatchError(f"samples must be at least 1, not {self.samples}")

    def __call__(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """Run both; see :class:`Coupling`."""
        with frozen(teacher):
            taught = self._mixed(teacher, request, request.keep_teacher, None)
        keep = request.keep_student(taught)
        return taught, self._mixed(student, request, keep, self.relaxation(request.progress))

    def _mixed(self, model: DGM, request: Request, keep: Keep, relaxation: Relaxation | None) -> Trace:
        x = None if request.x is None else request.x.repeat_interleave(self.samples, dim=0)
        batch_size = None if request.batch_size is None else request.batch_size * self.samples
        trace = model.trace(batch_size, x, keep=keep, generator=request.generator, relaxation=relaxation)
        return mixed_targets(trace, self.samples, "marginalized distillation", "methods.surrogate")
