"""Transfer of knowledge between networks: the task's own loss and any divergences of features, on one run of each."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from limbeck.core.comparison import Divergence
from limbeck.core.coupling_labels import WithData, data_site
from limbeck.core.divergence import nll, tempered_kl
from limbeck.core.match import Match
from limbeck.core.objective import Objective
from limbeck.errors import MatchError

__all__ = ["NAMED", "Named", "matched", "transfer"]


@dataclass(frozen=True)
class Named:
    """What a short name in a match stands for.

    Attributes:
        divergence: makes it, with the settings of its paper.
        weight: its usual weight, one of those that [V] App. A.3 chooses among.
        labelled: whether it looks at the data's target beside the teacher's law.
    """

    divergence: Callable[[], Divergence]
    weight: float = 1.0
    labelled: bool = False


NAMED: dict[str, Named] = {
    "kd": Named(lambda: tempered_kl(4.0), 1.0),
}
"""Short names of divergences."""

_TEXT = re.compile(r"(?P<teacher>(?:(?!->)[^:@])+)(?:->(?P<student>[^:@]+))?:(?P<name>[\w-]+)(?:@(?P<weight>[^@]+))?")


def transfer(matches: Sequence[Match | str] = (), task_weight: float = 1.0, *, target: str | None = "y") -> Objective:
    r"""Learn the task from labelled rows and, beside it, from sites of the teacher ([V] Eq. 2, 8).

    .. math:: L = \lambda_1 E[-\log p_\theta(y | x)] + \sum_k \lambda_k \, d_k(t^{(k)}, s^{(k)})

    Both networks see the same x, and each runs once. The teacher may have been trained for another task: only what is
    matched must fit.

    Args:
        matches: what is compared. A text ``"TEACHER->STUDENT:NAME@WEIGHT"`` names the teacher's sites, the student's
            (by default the same), a divergence of :data:`NAMED` and its factor (by default that of the table):
            ``"h[*]:vid@10"``, ``"y:kd"``, ``"logits->penultimate:vid-lp@100"``.
        task_weight: :math:`\lambda_1`; with 0 no labels are needed.
        target: the target that the labels tell; ``None`` for models with several.

    Raises:
        MatchError: there is nothing to learn from, or a text cannot be read.

    Example:
        >>> [match.weight for match in transfer(["h[*]:vid@10", "y:kd"], task_weight=0.1).matches]
        [0.1, 10.0, 1.0]
    """
    found = [match if isinstance(match, Match) else matched(match) for match in matches]
    if task_weight:
        label = "*" if target is None else target
        found.insert(0, Match(data_site(label), label, nll, task_weight, name="task"))
    labelled = any(data_site("") in str(match.teacher) for match in found)
    return Objective(found, WithData(target=target) if labelled else None)


def matched(text: str) -> Match:
    """A match from its text; see :func:`transfer`.

    Raises:
        MatchError: it has another form, or nothing has this name.

    Example:
        >>> match = matched("layer3->layer2:vid@100")
        >>> match.teacher, match.student, match.weight
        ('layer3', 'layer2', 100.0)
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise MatchError(f"{text!r} is no match; write TEACHER->STUDENT:NAME@WEIGHT, as in 'layer3->layer2:vid@10'")
    name, teacher, student = found["name"], found["teacher"].strip(), found["student"]
    if name not in NAMED:
        near = difflib.get_close_matches(name, NAMED, n=2)
        told = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(NAMED)}"
        raise MatchError(f"{text!r}: no divergence is called {name!r}; {told}")
    named = NAMED[name]
    try:
        weight = named.weight if found["weight"] is None else float(found["weight"])
    except ValueError:
        raise MatchError(f"{text!r}: the weight {found['weight']!r} is not a number") from None
    student = teacher if student is None and named.labelled else student and student.strip()
    if named.labelled:
        teacher = f"{teacher}&{data_site(teacher)}"
    return Match(teacher, student, named.divergence(), weight, name=name)
