"""Which site of the teacher's run is compared with which of the student's."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from torch import Tensor
from torch.distributions import Distribution

from limbeck.core.joint import Joint
from limbeck.core.objective.match import Match
from limbeck.core.trace import Kind, Trace
from limbeck.errors import MatchError

__all__ = ["Pairing", "pairings"]


@dataclass(frozen=True, slots=True)
class Pairing:
    """One comparison.

    Attributes:
        position: of the match among those of its objective.
        match: says how.
        name: the teacher's site, or the names of several with ``&`` between them.
        teacher: the teacher's law, batch first.
        student: the student's.
        mask: rows in which the site exists, bool of shape (batch,); ``None`` for all.
    """

    position: int
    match: Match
    name: str
    teacher: Distribution
    student: Distribution
    mask: Tensor | None = None

    @property
    def key(self) -> str:
        """What tells it from the others of its objective, fit for the name of a module."""
        return f"{self.position}:{self.name}".replace(".", "/")


def pairings(
    matches: Sequence[Match],
    matched: Callable[[str, Kind], list[tuple[int, Match]]],
    taught: Trace,
    learned: Trace,
    *,
    complete: bool = True,
) -> Iterator[Pairing]:
    """All comparisons of two runs, in the order of the teacher's program.

    Args:
        matches: of the objective.
        matched: name and kind of a teacher's site to the matches that it belongs to, each with its position.
        taught: the teacher's run.
        learned: the student's.
        complete: whether it is an error that a match that is required finds nothing.

    Raises:
        MatchError: a site is missing.
    """
    used: set[int] = set()
    for name, site in taught.items():
        for position, match in matched(name, site.kind):
            if match.joint:
                parts, own = match.teacher_parts, match.student_parts
                if position in used or any(part not in taught for part in parts):
                    continue
            else:
                parts, own = (name,), (match.student_name(name),)
            if absent := [part for part in own if part not in learned]:
                raise MatchError(_missing(name, absent[0], learned))
            used.add(position)
            yield Pairing(position, match, "&".join(parts), _law(taught, parts), _law(learned, own), site.mask)
    for position, match in enumerate(matches):
        if complete and match.required and position not in used:
            _refuse(match, taught)


def _law(trace: Trace, parts: Sequence[str]) -> Distribution:
    # A loop: torch.compile cannot follow names that a comprehension binds.
    laws = []
    for part in parts:
        law = trace[part].distribution
        assert law is not None  # what is matched is kept
        laws.append(law)
    return laws[0] if len(laws) == 1 else Joint(laws)


def _refuse(match: Match, taught: Trace) -> NoReturn:
    names = ", ".join(taught.declared) or "none"
    if match.joint:
        absent = next(part for part in match.teacher_parts if part not in taught)
        raise MatchError(f"no teacher site is called {absent!r} (in {match.teacher!r}); the teacher's sites: {names}")
    kind = "site" if match.kind is None else match.kind.value
    raise MatchError(f"no teacher {kind} fits the match {match.teacher!r}; the teacher's sites: {names}")


def _missing(teacher_name: str, student_name: str, learned: Trace) -> str:
    near = difflib.get_close_matches(student_name, list(learned.declared), n=3)
    hint = f"near: {', '.join(near)}" if near else f"it has: {', '.join(learned.declared) or 'none'}"
    return (
        f"the student has no site {student_name!r} to compare with the teacher's {teacher_name!r} ({hint}); give the "
        "match an explicit teacher-to-student mapping, or match fewer sites"
    )
