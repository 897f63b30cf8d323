"""An objective is a coupling and a list of matches: ``sum of weight * divergence(teacher site, student site)``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from limbeck.core.coupling import Coupling, Request, SharedNoise
from limbeck.core.divergence import kl
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_NOTHING, Keep, Kind, Trace
from limbeck.errors import LimbeckError, MatchError

__all__ = ["Divergence", "Match", "Objective"]

Divergence = Callable[[Distribution, Distribution], Tensor]
"""Teacher's and student's law of one site to one number per batch row, shape (batch,)."""

Weight = float | Callable[[float], float]
"""A number, or a function of the fraction of training that is done."""


@dataclass(frozen=True)
class Match:
    """Which sites are compared, how, and how much it counts.

    Attributes:
        teacher: a site name; a pattern in which ``*`` stands for any text, as in ``"z[*]"``; or a mapping from teacher
            site names to student site names.
        student: the student's name or pattern; its ``*`` are filled, in order, with what the teacher's stood for. By
            default the same name as the teacher's.
        divergence: function or module of (teacher's law, student's law), one number per row.
        weight: factor of this match, or a function from progress in [0, 1] to one.
        kind: only sites of this kind; ``None`` matches every kind.
        required: whether it is an error that no teacher site fits.

    Example:
        >>> Match("block[*].mean", "layer[*]").student_name("block[3].mean")
        'layer[3]'
    """

    teacher: str | Mapping[str, str] = "*"
    student: str | None = None
    divergence: Divergence = kl
    weight: Weight = 1.0
    kind: Kind | None = None
    required: bool = True
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if isinstance(self.teacher, str):
            pattern = re.compile(re.escape(self.teacher).replace(r"\*", "(.*)"))
            object.__setattr__(self, "_pattern", pattern)
            stars = (self.student or "").count("*")
            if stars > self.teacher.count("*"):
                raise MatchError(f"student pattern {self.student!r} has more '*' than teacher pattern {self.teacher!r}")
        elif self.student is not None:
            raise MatchError("give a student name only with a single teacher name or pattern, not with a mapping")

    def accepts(self, name: str, kind: Kind) -> bool:
        """Whether a teacher site is part of this match."""
        if self.kind is not None and kind is not self.kind:
            return False
        return name in self.teacher if self._pattern is None else self._pattern.fullmatch(name) is not None

    def student_name(self, name: str) -> str:
        """The student site that belongs to an accepted teacher site."""
        if not isinstance(self.teacher, str):
            return self.teacher[name]
        if self.student is None or self._pattern is None:
            return name
        found = self._pattern.fullmatch(name)
        parts = iter(found.groups() if found else ())
        return re.sub(r"\*", lambda _: next(parts), self.student)

    @property
    def renames(self) -> bool:
        """Whether teacher and student names can differ."""
        return self.student is not None or not isinstance(self.teacher, str)


class Objective(nn.Module):
    """Compares a student with its teacher; calling it gives a loss to minimise over the student's parameters.

    It is a module because divergences may have parameters of their own, which train with the student.

    Args:
        matches: what is compared.
        coupling: how the student's run is tied to the teacher's.
        weight: factor of the sum of the matches: alpha in [U] Eq. 10.
        train_weight: factor of the student's own loss on data: 1 - alpha in [U] Eq. 10.

    Example:
        Inside one's own training loop::

            objective = limbeck.methods.surrogate(latent_weight=1e-3)
            loss = objective(teacher, student, batch_size=128).total
    """

    def __init__(
        self,
        matches: Sequence[Match],
        coupling: Coupling | None = None,
        *,
        weight: float = 1.0,
        train_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.matches = tuple(matches)
        self.coupling: Coupling = SharedNoise() if coupling is None else coupling
        self.weight = weight
        self.train_weight = train_weight
        self.divergences = nn.ModuleList(m.divergence for m in self.matches if isinstance(m.divergence, nn.Module))
        # What a name maps to never changes between steps, so it is worked out once a name.
        self._matches_of: dict[tuple[str, Kind], list[Match]] = {}
        self._renaming = tuple(match for match in self.matches if match.renames)

    @property
    def needs_teacher(self) -> bool:
        """Whether any match compares with a teacher."""
        return bool(self.matches)

    @property
    def needs_data(self) -> bool:
        """Whether the student's own loss on data is part of the objective."""
        return self.train_weight != 0.0

    def forward(
        self,
        teacher: DGM | None,
        student: DGM,
        *,
        batch_size: int | None = None,
        x: Tensor | None = None,
        batch: Batch | None = None,
        progress: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Run teacher and student once and compare them.

        Args:
            teacher: the frozen model; ``None`` if nothing is matched. It runs in eval mode without gradients.
            student: the model to train.
            batch_size: number of rows to draw when there is neither ``x`` nor ``batch``.
            x: conditioning input, shape (batch, ...); by default ``batch.x``.
            batch: data for the student's own loss.
            progress: fraction of training that is done, in [0, 1].
            generator: source of noise.

        Returns:
            The loss averaged over rows; terms are named after the teacher's sites, the student's own loss ``train``.

        Raises:
            MatchError: a matched site is missing, or nothing can be compared.
        """
        terms: dict[str, Tensor] = {}
        if self.matches:
            if teacher is None:
                raise MatchError("this objective compares with a teacher, but none was given")
            if batch is not None:
                x = batch.x if x is None else x
                batch_size = len(batch) if batch_size is None else batch_size
            y = None if batch is None else batch.y
            request = Request(
                batch_size, x, self._keep_teacher, self._keep_student, self._rename, generator, progress, y
            )
            taught, learned = self.coupling(teacher, student, request)
            self._compare(taught, learned, progress, terms)
        if self.train_weight:
            if batch is None:
                raise MatchError("this objective trains on data too, but got no batch; pass data=... or batch=...")
            own = student.loss(batch, progress=progress)
            for name, term in own.terms.items():
                key = name if not self.matches else f"train/{name}"
                terms[key] = term if self.train_weight == 1.0 else self.train_weight * term
        if not terms:
            raise MatchError("this objective has no terms: give it matches or a train_weight")
        return Loss.of(terms)

    def _matched(self, name: str, kind: Kind) -> list[Match]:
        key = (name, kind)
        found = self._matches_of.get(key)
        if found is None:
            found = self._matches_of[key] = [match for match in self.matches if match.accepts(name, kind)]
        return found

    def _keep_teacher(self, name: str, kind: Kind) -> int:
        return KEEP_DISTRIBUTION if self._matched(name, kind) else KEEP_NOTHING

    def _keep_student(self, taught: Trace) -> Keep:
        wanted = {match.student_name(name) for name, site in taught.items() for match in self._matched(name, site.kind)}
        return lambda name, kind: KEEP_DISTRIBUTION if name in wanted else KEEP_NOTHING

    def _rename(self, name: str, kind: Kind) -> str:
        for match in self._renaming:
            if match.accepts(name, kind):
                return match.student_name(name)
        return name

    def _compare(self, taught: Trace, learned: Trace, progress: float, terms: dict[str, Tensor]) -> None:
        used: set[int] = set()
        for name, site in taught.items():
            for match in self._matched(name, site.kind):
                used.add(id(match))
                student_name = match.student_name(name)
                if student_name not in learned:
                    raise MatchError(_missing(name, student_name, learned))
                teacher_law, student_law = site.distribution, learned[student_name].distribution
                assert teacher_law is not None
                assert student_law is not None
                try:
                    rows = match.divergence(teacher_law, student_law)
                except LimbeckError as error:
                    raise type(error)(f"site {name!r}: {error}") from None
                weight = self.weight * (match.weight(progress) if callable(match.weight) else match.weight)
                term = rows.mean() if weight == 1.0 else weight * rows.mean()
                terms[name] = terms[name] + term if name in terms else term
        for match in self.matches:
            if match.required and id(match) not in used:
                kind = "site" if match.kind is None else match.kind.value
                names = ", ".join(taught.declared) or "none"
                raise MatchError(f"no teacher {kind} fits the match {match.teacher!r}; the teacher's sites: {names}")


def _missing(teacher_name: str, student_name: str, learned: Trace) -> str:
    near = difflib.get_close_matches(student_name, list(learned.declared), n=3)
    hint = f"near: {', '.join(near)}" if near else f"it has: {', '.join(learned.declared) or 'none'}"
    return (
        f"the student has no site {student_name!r} to compare with the teacher's {teacher_name!r} ({hint}); give the "
        "match an explicit teacher-to-student mapping, or match fewer sites"
    )
