"""Which sites of teacher and student are compared, how, and how much it counts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from limbeck.core.divergence import kl
from limbeck.core.divergence.learned import Learned
from limbeck.core.objective.comparison import Divergence
from limbeck.core.objective.enclosed import module_of
from limbeck.core.trace import Kind
from limbeck.errors import MatchError

__all__ = ["Match", "Weight"]

Weight = float | Callable[[float], float]
"""A number, or a function of the fraction of training that is done."""


@dataclass(frozen=True)
class Match:
    """Which sites are compared, how, and how much it counts.

    Attributes:
        teacher: a site name; a pattern in which ``*`` stands for any text, as in ``"z[*]"``; or a mapping from teacher
            site names to student site names.
        student: the student's name or pattern; each ``*`` is replaced, in order, by the text that the teacher's ``*``
            matched. By default the same name as the teacher's. Either may join several sites with ``&``, as in
            ``"h[0]&h[1]"``, but not together with ``*``: the divergence then gets a :class:`~limbeck.core.joint.Joint`.
        divergence: function or module of (teacher's law, student's law), one number per row.
        weight: factor of this match, or a function from progress in [0, 1] to one.
        kind: only sites of this kind; ``None`` matches every kind.
        required: whether it is an error if no teacher site fits or, with a mapping, if any of its names fits none.
        partial: whether the teacher's sites that the student lacks are skipped, for instance where the teacher runs in
            many steps and the student in few.
        name: put before the site's name in the names of its terms, as in ``"vid/h[0]"``; it keeps the terms of two
            matches apart that compare the same sites.

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
    partial: bool = False
    name: str | None = field(default=None, metadata={"fingerprint": False})
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if not callable(self.divergence):
            raise MatchError(
                f"the divergence of the match {self.teacher!r} must be a function of two laws, such as "
                f"limbeck.divergence.kl, not {self.divergence!r}"
            )
        behind = module_of(self.divergence)
        if isinstance(behind, Learned) and behind is not self.divergence and not behind.sized:
            raise MatchError(
                f"the divergence of the match {self.teacher!r} learns, and each pair of sites gets a copy of it: give "
                f"the {type(behind).__name__} itself, its settings as its arguments, rather than {self.divergence!r}"
            )
        if not callable(self.weight) and not math.isfinite(self.weight):
            raise MatchError(f"the weight of the match {self.teacher!r} must be a finite number, not {self.weight}")
        if self.joint:
            if "*" in f"{self.teacher}{self.student or ''}" or self.kind is not None or self.partial:
                raise MatchError(f"a match that joins sites, {self.teacher!r}, takes their names, no pattern or kind")
        elif isinstance(self.teacher, str):
            pattern = re.compile(re.escape(self.teacher).replace(r"\*", "(.*)"))
            object.__setattr__(self, "_pattern", pattern)
            stars = (self.student or "").count("*")
            if stars > self.teacher.count("*"):
                raise MatchError(f"student pattern {self.student!r} has more '*' than teacher pattern {self.teacher!r}")
        elif self.student is not None:
            raise MatchError("give a student name only with a single teacher name or pattern, not with a mapping")

    @property
    def joint(self) -> bool:
        """Whether several sites of one model are compared as one."""
        return isinstance(self.teacher, str) and "&" in self.teacher + (self.student or "")

    @property
    def teacher_parts(self) -> tuple[str, ...]:
        """The names that a joint match joins on the teacher's side."""
        return tuple(str(self.teacher).split("&"))

    @property
    def student_parts(self) -> tuple[str, ...]:
        """The names that a joint match joins on the student's side."""
        return tuple((self.student or str(self.teacher)).split("&"))

    def accepts(self, name: str, kind: Kind) -> bool:
        """Whether a teacher site is part of this match."""
        if self.joint:
            return name in self.teacher_parts
        if self.kind is not None and kind is not self.kind:
            return False
        return name in self.teacher if self._pattern is None else self._pattern.fullmatch(name) is not None

    def unfit(self, sites: Container[str]) -> list[str]:
        """The names of a mapping that are missing from the teacher's kept sites, although they must be there."""
        if isinstance(self.teacher, str) or self.partial:
            return []
        return [name for name in self.teacher if name not in sites]

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
        return not self.joint and (self.student is not None or not isinstance(self.teacher, str))
