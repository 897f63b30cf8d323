"""Both models see the data's targets: word-level distillation of sequences (Kim & Rush 2016, Sec. 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from limbeck.core.coupling.coupling import Request
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.trace import KEEP_NOTHING, Kind, Trace
from limbeck.errors import MatchError

__all__ = ["DataTargets"]


@dataclass(frozen=True)
class DataTargets:
    """Each target's conditional is compared given the data's values of the targets before it, not the teacher's.

    Attributes:
        site: name of the teacher's target whose values are the rows of ``y``. With a ``*``, as in ``"y[*]"``, column
            ``t`` of ``y`` has the values of the target whose name has ``t`` in place of the ``*``.
    """

    site: str = "y[*]"

    @property
    def needs_data(self) -> bool:
        """See :class:`~limbeck.core.coupling.Observing`."""
        return True

    @property
    def runs_inference(self) -> bool:
        """See :class:`~limbeck.core.coupling.Observing`."""
        return False

    def __call__(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """Run both; see :class:`~limbeck.core.coupling.Coupling`.

        Raises:
            MatchError: there are no data, or they do not have exactly one column for each of the teacher's targets.
        """
        if request.y is None:
            raise MatchError(
                "DataTargets shows both models the data's targets, but got none; pass data=... or batch=..."
            )
        values = self._values(request.y)
        with frozen(teacher):
            taught = teacher.trace(
                request.batch_size,
                request.x,
                # An empty mapping, not None: a latent must be an error, since the data have no value for it.
                noise={},
                values=values,
                keep=lambda name, kind: request.keep_teacher(name, kind) if name in values else KEEP_NOTHING,
            )
        self._check_columns(values, taught)
        learned = student.trace(
            request.batch_size,
            request.x,
            noise={},
            values={request.rename(name, Kind.TARGET): value for name, value in values.items()},
            keep=request.keep_student(taught),
        )
        return taught, learned

    def _check_columns(self, values: dict[str, Tensor], taught: Trace) -> None:
        """Refuse a target without a column, which would be drawn, and a column without a target, which would be lost.

        Raises:
            MatchError: there is one.
        """
        declared = set(taught.declared)
        following = self.site.replace("*", str(len(values)))
        if declared.issuperset(values) and following not in declared - values.keys():
            return
        raise MatchError(
            f"the data tell the targets {', '.join(values)}, but the teacher's sites are {', '.join(taught.declared)}; "
            f"give y one column for each target {self.site!r}"
        )

    def _values(self, y: Tensor) -> dict[str, Tensor]:
        if "*" not in self.site:
            return {self.site: y}
        if y.ndim < 2:
            raise MatchError(f"{self.site!r} needs one column a target, but y has shape {tuple(y.shape)}")
        return {self.site.replace("*", str(column)): value for column, value in enumerate(y.unbind(1))}
