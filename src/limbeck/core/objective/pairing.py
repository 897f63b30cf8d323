"""Which site of the teacher's run is compared with which of the student's."""

from __future__ import annotations

import difflib
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor
from torch.distributions import Distribution
from typing_extensions import override

from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.joint import Joint
from limbeck.core.objective.match import Match
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_NOTHING, Keep, Kind, Site, Trace, keep_fields
from limbeck.errors import MatchError

__all__ = ["Matching", "Pairing"]


@dataclass(frozen=True, slots=True)
class Pairing:
    """One comparison.

    Attributes:
        position: of the match among those of its objective.
        match: defines the comparison.
        name: the teacher's site, or the names of several with ``&`` between them.
        teacher: the teacher's law, batch first.
        student: the student's.
        mask: rows in which the site, or each of those joined, exists, bool of shape (batch,); ``None`` for all.
    """

    position: int
    match: Match
    name: str
    teacher: Distribution
    student: Distribution
    mask: Tensor | None = None

    @property
    def key(self) -> str:
        """A unique name within its objective that can be the name of a module."""
        return f"{self.position}:{self.name}".replace(".", "/")


class Matching:
    """The matches of an objective: what the two runs must keep for them, and which sites they compare.

    What a name maps to never changes between steps, so it is looked up only once for each name.

    Args:
        matches: in the order in which they were given.
    """

    def __init__(self, matches: Sequence[Match]) -> None:
        self.matches = tuple(matches)
        if strays := [match for match in self.matches if not isinstance(match, Match)]:
            raise MatchError(f"an objective takes a list of matches, such as [Match('y')], not {strays[0]!r} in it")
        self._found: dict[tuple[str, Kind], list[tuple[int, Match]]] = {}
        self._renames = any(match.renames for match in self.matches)
        self._partial = any(match.partial for match in self.matches)
        self._students: frozenset[str] = frozenset()
        self._student_seen: weakref.ref[DGM] | None = None

    @override
    def __reduce__(self) -> tuple[type[Matching], tuple[tuple[Match, ...]]]:
        return Matching, (self.matches,)  # a copy, saved or not, has not looked at a student yet

    def of(self, name: str, kind: Kind) -> list[tuple[int, Match]]:
        """The matches that a teacher's site belongs to, each with its position."""
        key = (name, kind)
        found = self._found.get(key)
        if found is None:
            found = [
                (position, match)
                for position, match in enumerate(self.matches)
                if match.accepts(name, kind) and (not match.partial or match.student_name(name) in self._students)
            ]
            if not torch.compiler.is_compiling():  # state that a step changes would make it be compiled again
                self._found[key] = found
        return found

    def look_at(self, student: DGM, x: Tensor | None) -> None:
        """Find out, once, which sites a student has, if there is a match that skips those that it lacks.

        Args:
            student: the model that learns.
            x: conditioning input, shape (rows, ...), if it has one.
        """
        if not self._partial or (self._student_seen is not None and self._student_seen() is student):
            return
        # On a branch of the random numbers: the first step of a training must not differ from the others.
        with torch.random.fork_rng(), frozen(student):
            declared = student.trace(1, None if x is None else x[:1], keep=keep_fields(KEEP_NOTHING)).declared
        self._students = frozenset(declared)
        self._student_seen = weakref.ref(student)
        self._found.clear()

    def keep_teacher(self, name: str, kind: Kind) -> int:
        """What the teacher's run must store of a site: its law, if it is compared."""
        return KEEP_DISTRIBUTION if self.of(name, kind) else KEEP_NOTHING

    def keep_student(self, taught: Trace) -> Keep:
        """Given the teacher's run, what the student's must store."""
        wanted: set[str] = set()
        for name, site in taught.items():
            for _, match in self.of(name, site.kind):
                wanted.update(match.student_parts if match.joint else (match.student_name(name),))
        return lambda name, kind: KEEP_DISTRIBUTION if name in wanted else KEEP_NOTHING

    def rename(self, name: str, kind: Kind) -> str:
        """The student's name of a teacher's site: what the student draws there follows the teacher's draw.

        A site that is also compared under its own name keeps it; otherwise the first match decides.
        """
        renamed = name
        for match in self.matches if self._renames else ():
            if match.joint or not match.accepts(name, kind):
                continue
            own = match.student_name(name)
            if own == name and not (match.partial and own not in self._students):
                return name
            if renamed == name:
                renamed = own
        return renamed

    def pairings(self, taught: Trace, learned: Trace, *, complete: bool = True) -> Iterator[Pairing]:
        """All comparisons of two runs, in the order of the teacher's program.

        Args:
            taught: the teacher's run.
            learned: the student's.
            complete: whether it is an error that a match that is required finds nothing.

        Raises:
            MatchError: a site is missing.
        """
        used: set[int] = set()
        for name, site in taught.items():
            for position, match in self.of(name, site.kind):
                if match.joint:
                    parts, own = match.teacher_parts, match.student_parts
                    if position in used or any(part not in taught for part in parts):
                        continue
                else:
                    parts, own = (name,), (match.student_name(name),)
                if absent := [part for part in own if part not in learned]:
                    raise MatchError(_missing(site, absent[0], learned))
                used.add(position)
                yield Pairing(
                    position, match, "&".join(parts), _law(taught, parts), _law(learned, own), _mask(taught, parts)
                )
        for position, match in enumerate(self.matches):
            if complete and match.required and (position not in used or match.unfit(taught)):
                _refuse(match, taught)


def _law(trace: Trace, parts: Sequence[str]) -> Distribution:
    # A loop: torch.compile cannot follow names that a comprehension binds.
    laws = []
    for part in parts:
        law = trace[part].distribution
        assert law is not None  # what is matched is kept
        laws.append(law)
    return laws[0] if len(laws) == 1 else Joint(laws)


def _mask(taught: Trace, parts: Sequence[str]) -> Tensor | None:
    """The rows in which all of the teacher's sites exist."""
    mask = taught[parts[0]].mask
    for part in parts[1:]:
        other = taught[part].mask
        mask = other if mask is None else mask if other is None else mask & other
    return mask


def _refuse(match: Match, taught: Trace) -> NoReturn:
    names = ", ".join(taught.declared) or "none"
    if match.joint:
        absent = next(part for part in match.teacher_parts if part not in taught)
        raise MatchError(f"no teacher site is called {absent!r} (in {match.teacher!r}); the teacher's sites: {names}")
    kind = "site" if match.kind is None else match.kind.value
    unfit = match.unfit(taught)
    asked = f"the name {unfit[0]!r} of the match" if unfit else "the match"
    raise MatchError(f"no teacher {kind} fits {asked} {match.teacher!r}; the teacher's sites: {names}")


def _missing(site: Site, student_name: str, learned: Trace) -> str:
    near = difflib.get_close_matches(student_name, list(learned.declared), n=3)
    hint = f"near: {', '.join(near)}" if near else f"it has: {', '.join(learned.declared) or 'none'}"
    latent = site.kind is Kind.LATENT
    other = "use limbeck.methods.mapped, which needs no latents in common" if latent else "match fewer sites"
    return (
        f"the student has no site {student_name!r} to compare with the teacher's {site.name!r} ({hint}); give the "
        f"match an explicit teacher-to-student mapping, or {other}"
    )
