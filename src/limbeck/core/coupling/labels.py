"""The data's own targets beside the teacher's: a label is a law like any other, a point mass."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from torch import Tensor

from limbeck.core.coupling.coupling import Coupling, Request, prepare_coupling, runs_inference
from limbeck.core.coupling.shared import SharedNoise
from limbeck.core.delta import Delta
from limbeck.core.graph import DGM
from limbeck.core.reparam import Law
from limbeck.core.trace import Keep, Kind, Site, Trace

__all__ = ["WithData", "data_site"]

_SUFFIX = "|data"


def data_site(target: str) -> str:
    """Name of the site that holds the data's value of a target.

    Example:
        >>> data_site("y")
        'y|data'
    """
    return target + _SUFFIX


@dataclass(frozen=True)
class WithData:
    r"""Another coupling, and the targets of the batch as point masses :math:`\delta_y` beside the teacher's sites.

    The KL from a point mass to a law is that law's negative log-likelihood, so the loss on labels is a match like any
    other: ``Match("y|data", "y", nll)``. Unlike :func:`~limbeck.core.methods.joint` it costs no second run of the
    student, and a divergence that needs the label beside the teacher's prediction can have both (``"y&y|data"``).

    Attributes:
        inner: the other coupling, which runs both models.
        target: name of the target whose value is ``Batch.y``; ``None`` for models with several targets, whose values
            come from the student's :meth:`limbeck.DGM.split_targets`.
    """

    inner: Coupling = field(default_factory=SharedNoise)
    target: str | None = "y"

    @property
    def needs_data(self) -> bool:
        """See :class:`~limbeck.core.coupling.Observing`."""
        return True

    @property
    def runs_inference(self) -> bool:
        """See :class:`~limbeck.core.coupling.Observing`."""
        return runs_inference(self.inner)

    def __call__(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """Run both; see :class:`~limbeck.core.coupling.Coupling`."""

        def keep_student(taught: Trace) -> Keep:
            for name, value in self._labels(student, request).items():
                if request.keep_teacher(data_site(name), Kind.DATA):
                    taught.add(Site(data_site(name), Kind.DATA, Law.NONE, Delta(value)))
            return request.keep_student(taught)

        return self.inner(teacher, student, dataclasses.replace(request, keep_student=keep_student))

    def prepare(self, teacher: DGM, student: DGM, x: Tensor | None = None) -> None:
        """See :class:`~limbeck.core.coupling.Preparable`."""
        prepare_coupling(self.inner, teacher, student, x)

    def _labels(self, student: DGM, request: Request) -> dict[str, Tensor]:
        """Target name to its value in the data; empty where there are no data, as when parameters are sized."""
        if request.y is None:
            return {}
        return {self.target: request.y} if self.target is not None else student.split_targets(request.y, request.x)
