"""The same objective with other weights, for choosing among them."""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Iterable, Mapping

from limbeck.core.objective.objective import Objective
from limbeck.core.objective.pairing import Matching
from limbeck.errors import MatchError

__all__ = ["check_patterns", "with_weights"]


def with_weights(objective: Objective, weights: Mapping[str, float]) -> Objective:
    """An objective whose matches count otherwise.

    Args:
        objective: stays as it is.
        weights: the pattern of the teacher's sites, as the match has it, to the new weight. A pattern that several
            matches have in common gives it to each of them.

    Returns:
        A copy with divergences of its own.

    Raises:
        MatchError: no match has such a pattern.

    Example:
        >>> from limbeck.core.objective import Match
        >>> objective = Objective([Match("y"), Match("h[*]", weight=10.0)])
        >>> [match.weight for match in with_weights(objective, {"h[*]": 100.0}).matches]
        [1.0, 100.0]
    """
    check_patterns(objective, weights)
    made = copy.deepcopy(objective)
    made.matching = Matching(
        [
            dataclasses.replace(match, weight=weights[match.teacher])
            if isinstance(match.teacher, str) and match.teacher in weights
            else match
            for match in made.matches
        ]
    )
    return made


def check_patterns(objective: Objective, patterns: Iterable[str]) -> None:
    """Check that an objective has matches of these patterns.

    Raises:
        MatchError: names a pattern that no match has, and those that there are.
    """
    known = list(dict.fromkeys(match.teacher for match in objective.matches if isinstance(match.teacher, str)))
    for pattern in patterns:
        if pattern not in known:
            near = difflib.get_close_matches(pattern, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(map(repr, known)) or 'none'}"
            raise MatchError(f"no match is of the teacher's sites {pattern!r}; {hint}")
