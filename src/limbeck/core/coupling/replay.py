"""What a teacher generates in place of data: generative replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from limbeck.core.coupling.coupling import Request
from limbeck.core.expectation import mean
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_VALUE, Kind, Trace
from limbeck.errors import MatchError

__all__ = ["KEEP", "Replay", "TeacherSamples", "generated"]

Replay = Literal["sample", "mean"]
"""What is used of a teacher's run in place of data: draws from its law, or the means of its last conditionals."""

KEEP = {"sample": KEEP_VALUE, "mean": KEEP_DISTRIBUTION}
"""What a trace must keep of its targets for :func:`generated`."""


def generated(taught: Trace, replay: Replay) -> dict[str, Tensor]:
    """What a teacher's run generated: target name to value, shape (batch, ...).

    Args:
        taught: the run, which has kept what :data:`KEEP` lists of the targets.
        replay: draws or means.

    Raises:
        MatchError: the coupling has kept none of them.
    """
    if replay == "sample":
        found = taught.targets
    else:
        found = {s.name: mean(s.distribution) for s in taught.of_kind(Kind.TARGET) if s.distribution is not None}
    if not found:
        raise MatchError(
            f"this coupling leaves no {replay} of the teacher's targets to learn from, as where each row is a mixture "
            "over draws; use another coupling, such as SharedNoise"
        )
    return found


@dataclass(frozen=True)
class TeacherSamples:
    """The teacher generates and the student does not run: for objectives that replay samples and compare nothing.

    Attributes:
        temperature: scales the noise of the teacher's latents, see :meth:`~limbeck.core.graph.DGM.trace`. Above 1 the
            samples spread beyond the teacher's own law: more of them are atypical, and fewer data lie outside of them.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < float("inf"):
            raise MatchError(f"the temperature of a teacher's samples must be positive, not {self.temperature}")

    def __call__(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """Run the teacher; see :class:`~limbeck.core.coupling.Coupling`."""
        with frozen(teacher):
            taught = teacher.trace(
                request.batch_size,
                request.x,
                keep=request.keep_teacher,
                generator=request.generator,
                temperature=self.temperature,
            )
        return taught, Trace({}, taught.batch_size, ())
