"""Which steps of a student correspond to which steps of a deeper teacher ([F] Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from limbeck.errors import MatchError

__all__ = ["Depth", "Stepped", "depth_map", "is_step", "step_name"]

Depth = Literal["steps", "levels"] | Sequence[tuple[int, int]]
"""``"steps"``: all steps of the shallower model, evenly spaced in the deeper one. ``"levels"``: only the last step of
each level. Or (teacher, student) pairs of steps, counted from 1, the same in every level."""


@runtime_checkable
class Stepped(Protocol):
    """A model whose inference program is a sequence of steps in one or more levels, such as a flow."""

    @property
    def step_counts(self) -> tuple[int, ...]:
        """Number of steps of each level, in the order of the inference program."""
        ...


def step_name(level: int, step: int) -> str:
    """The site after a step of a level: levels are counted from 0, the steps of one from 1.

    >>> step_name(0, 2)
    'h[0][2]'
    """
    return f"h[{level}][{step}]"


def is_step(name: str) -> bool:
    """Whether a site is one that :func:`step_name` names."""
    return name.startswith("h[")


def depth_map(teacher: Sequence[int], student: Sequence[int], depth: Depth = "steps") -> dict[str, str]:
    """The teacher's sites that have a counterpart in the student, and its name.

    The end of the last level is not among them: it is the latent itself.

    Args:
        teacher: number of steps in each of the teacher's levels.
        student: number of steps in each of the student's levels.
        depth: which steps are compared.

    Returns:
        Teacher's site to student's site.

    Raises:
        MatchError: the numbers of levels differ, or a pair names a step that does not exist.

    Example:
        >>> depth_map([6], [3])
        {'h[0][2]': 'h[0][1]', 'h[0][4]': 'h[0][2]'}
        >>> depth_map([8, 8], [2, 2], "levels")
        {'h[0][8]': 'h[0][2]'}
    """
    if len(teacher) != len(student):
        raise MatchError(
            f"the teacher has {len(teacher)} levels and the student {len(student)}, so their steps have different "
            "shapes and cannot be compared; give both the same number of levels"
        )
    last = len(teacher) - 1
    names: dict[str, str] = {}
    for level, (long, short) in enumerate(zip(teacher, student, strict=True)):
        for left, right in _pairs(long, short, depth):
            if not (1 <= left <= long and 1 <= right <= short):
                raise MatchError(
                    f"depth names step {left} of the teacher and {right} of the student, but level {level} has "
                    f"{long} and {short}; steps are counted from 1"
                )
            ends = (left == long) + (right == short) if level == last else 0
            if ends == 1:
                raise MatchError(
                    f"depth ties step {left} of the teacher's {long} to step {right} of the student's {short}, but the "
                    "end of the last level is the latent, which is compared with the latent alone"
                )
            if not ends:
                names[step_name(level, left)] = step_name(level, right)
    return names


def _pairs(long: int, short: int, depth: Depth) -> Sequence[tuple[int, int]]:
    if not isinstance(depth, str):
        return depth
    if depth not in ("steps", "levels"):
        raise MatchError(f"depth must be steps, levels or pairs of steps, not {depth!r}")
    parts = min(long, short) if depth == "steps" else 1
    return [(round(part * long / parts), round(part * short / parts)) for part in range(1, parts + 1)]
