r"""Couplings around what the teacher generates: distilling its inference program, and replaying its samples.

With q the inference programs, the teacher's samples y and its posterior draws z tie the encoders together:

.. math:: E_{y \sim p_T} KL(q_T(z | y) || q_S(z | y))
          = E_{y \sim p_T, z \sim q_T} \sum_i KL(q_T(z_i | z_{>i}, y) || q_S(z_i | z_{>i}, y))

so a student that never sees data learns to encode, reconstruct and score. It is local distillation of ``infer``. The
latents of ``generate`` should be coupled too: otherwise the encoders agree on codes that the decoders read differently.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from limbeck.core.coupling import Coupling, Preparable, Request, SharedNoise, frozen
from limbeck.core.graph import DGM, mean
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_VALUE, Keep, Kind, Trace
from limbeck.errors import MatchError

__all__ = ["KEEP", "Replay", "TeacherSamples", "WithPosterior", "check_replay", "generated"]

Replay = Literal["sample", "mean"]
"""What of a teacher's run stands for data: draws from its law, or the means of its last conditionals."""

KEEP = {"sample": KEEP_VALUE, "mean": KEEP_DISTRIBUTION}
"""What a trace must keep of its targets for :func:`generated`."""

_SUFFIX = "|y"


def check_replay(name: str, replay: str) -> None:
    """Refuse a word that is neither.

    Raises:
        MatchError: names the argument and its value.
    """
    if replay not in KEEP:
        raise MatchError(f"{name} must be sample or mean, not {replay!r}")


def generated(teacher: DGM, taught: Trace, replay: Replay) -> Tensor:
    """What a teacher's run generated, as one ``y`` of shape (batch, ...).

    Args:
        teacher: the model.
        taught: its run, with what :data:`KEEP` says of the targets.
        replay: which part of it.
    """
    if replay == "sample":
        return teacher.join_targets(taught.targets)
    laws = {site.name: site.distribution for site in taught.of_kind(Kind.TARGET)}
    return teacher.join_targets({name: mean(law) for name, law in laws.items() if law is not None})


@dataclass(frozen=True)
class TeacherSamples:
    """The teacher generates and the student does not run: for objectives that replay samples and compare nothing."""

    def __call__(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """Run the teacher; see :class:`~limbeck.core.coupling.Coupling`."""
        with frozen(teacher):
            taught = teacher.trace(
                request.batch_size, request.x, keep=request.keep_teacher, generator=request.generator
            )
        return taught, Trace({}, taught.batch_size, ())


@dataclass(frozen=True)
class WithPosterior:
    """Another coupling, and beside it both inference programs on what the teacher generated.

    The student's inference sees the teacher's posterior values, so each of its conditionals is compared alone. The
    sites are of kind ``POSTERIOR`` and are called ``"z1|y"``, in both traces.

    Attributes:
        inner: how the generative programs are tied.
        inferred_from: what both models encode: ``"sample"``, draws from the teacher's law of y; or ``"mean"``, the
            means of its last conditionals, where the output noise is a tolerance that the data do not have.
    """

    inner: Coupling = field(default_factory=SharedNoise)
    inferred_from: Replay = "sample"

    def __post_init__(self) -> None:
        check_replay("inferred_from", self.inferred_from)

    @property
    def runs_inference(self) -> bool:
        """Tells the engine that the student's inference program is trained."""
        return True

    def prepare(self, teacher: DGM, student: DGM, x: Tensor | None = None) -> None:
        """See :class:`~limbeck.core.coupling.Preparable`."""
        if isinstance(self.inner, Preparable):
            self.inner.prepare(teacher, student, x)

    def __call__(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """Run both, both ways; see :class:`~limbeck.core.coupling.Coupling`."""

        def keep(name: str, kind: Kind) -> int:
            return request.keep_teacher(name, kind) | (KEEP[self.inferred_from] if kind is Kind.TARGET else 0)

        taught, learned = self.inner(teacher, student, dataclasses.replace(request, keep_teacher=keep))
        y = generated(teacher, taught, self.inferred_from)
        with frozen(teacher):
            posterior = teacher.trace_inference(
                y, request.x, keep=_of_posterior(request.keep_teacher, KEEP_VALUE), generator=request.generator
            )
        taught = taught.beside(posterior, _SUFFIX)
        values = {_bare(request.rename(name + _SUFFIX, Kind.POSTERIOR)): v for name, v in posterior.values.items()}
        inferred = student.trace_inference(
            y,
            request.x,
            # An empty mapping, not None: a latent that the teacher does not infer must be an error, not a fresh draw.
            noise={},
            values=values,
            keep=_of_posterior(request.keep_student(taught)),
            generator=request.generator,
        )
        return taught, learned.beside(inferred, _SUFFIX)


def _of_posterior(keep: Keep, also: int = 0) -> Keep:
    return lambda name, kind: also | keep(name + _SUFFIX, Kind.POSTERIOR)


def _bare(name: str) -> str:
    if not name.endswith(_SUFFIX):
        raise MatchError(
            f"a match of posteriors must name the student's site with {_SUFFIX!r} at its end, not {name!r}"
        )
    return name.removesuffix(_SUFFIX)
