"""Transfer of knowledge between networks: the task's own loss and divergences of features, on one run of each."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from limbeck.core.coupling import WithData
from limbeck.core.coupling.labels import data_site
from limbeck.core.divergence import (
    CRD,
    VID,
    LwF,
    Regressor,
    attention,
    decoupled_kl,
    logit_error,
    nll,
    selectivity,
    solution_flow,
    standardized_kl,
    tempered_kl,
)
from limbeck.core.methods.weights import check_weights
from limbeck.core.objective import Divergence, Match, Objective
from limbeck.errors import DivergenceError, MatchError

__all__ = ["NAMED", "Named", "matched", "transfer"]


@dataclass(frozen=True)
class Named:
    """What a short name in a match stands for.

    Attributes:
        divergence: makes the divergence, with the settings of its paper unless others are given.
        weight: its usual weight; where [V] App. A.3 has a grid for it, one of that grid.
        labelled: whether it uses the data's target beside the teacher's law.
    """

    divergence: Callable[..., Divergence]
    weight: float = 1.0
    labelled: bool = False


def _plain(function: Divergence) -> Callable[..., Divergence]:
    """Make a factory of divergences of a function of two laws: it returns the function, with settings if any."""

    def make(**settings: Any) -> Divergence:
        inspect.signature(function).bind_partial(**settings)
        return partial(function, **settings) if settings else function

    return make


NAMED: dict[str, Named] = {
    "vid": Named(VID, 10.0),
    "vid-lp": Named(partial(VID, bias=False), 10.0),
    "vid-student-t": Named(partial(VID, law="student-t"), 10.0),
    "vid-mixture": Named(partial(VID, law="mixture"), 10.0),
    "kd": Named(partial(tempered_kl, temperature=4.0)),
    "standardized-kd": Named(partial(standardized_kl, temperature=2.0)),
    "dkd": Named(partial(decoupled_kl, temperature=4.0), labelled=True),
    "logits": Named(_plain(logit_error)),
    "lwf": Named(LwF),
    "fitnet": Named(partial(Regressor, order=2.0, normalize=True, root=False), 10.0),
    "at": Named(_plain(attention), 1000.0),
    "nst": Named(_plain(selectivity), 50.0),
    "fsp": Named(_plain(solution_flow)),
    "crd": Named(CRD, 0.8),
}
"""Short names of divergences."""

_LABELLED = {"logits": "y"}  # a classifier's logits are compared beside the labels of its class

_TEXT = re.compile(
    r"(?P<teacher>(?:(?!->)[^:@])+)(?:->(?P<student>[^:@]+))?"
    r":(?P<name>[\w-]+)(?:\((?P<settings>[^()]*)\))?(?:@(?P<weight>[^@]+))?"
)


def transfer(matches: Sequence[Match | str] = (), task_weight: float = 1.0, *, target: str | None = "y") -> Objective:
    r"""Learn the task from labelled rows and, beside it, from sites of the teacher ([V] Eq. 2, 8).

    .. math:: L = \lambda_1 E[-\log p_\theta(y | x)] + \sum_k \lambda_k \, d_k(t^{(k)}, s^{(k)})

    Both networks see the same x, and each runs once. The teacher may have been trained for another task: only the
    matched sites must fit.

    Args:
        matches: what is compared. A text ``"TEACHER->STUDENT:NAME@WEIGHT"`` names the teacher's sites, the student's
            (by default the same), a divergence of :data:`NAMED` and its factor (by default that of the table):
            ``"h[*]:vid@10"``, ``"y:kd"``, ``"logits->penultimate:vid-lp@100"``. Other settings of the divergence stand
            in parentheses: ``"h[2]:vid(layers=2, hidden=0.5)@10"``.
        task_weight: :math:`\lambda_1`; with 0 no labels are needed.
        target: the target whose values are the labels; ``None`` for models with several.

    Raises:
        MatchError: there is nothing to learn from, a text cannot be parsed, or a weight is negative.

    Example:
        >>> [match.weight for match in transfer(["h[*]:vid@10", "y:kd"], task_weight=0.1).matches]
        [0.1, 10.0, 1.0]
    """
    check_weights(task_weight=task_weight)
    found = [match if isinstance(match, Match) else matched(match) for match in matches]
    if not found and not task_weight:
        raise MatchError("transfer: there is nothing to learn from; give matches, or a task_weight above 0")
    if task_weight:
        label = "*" if target is None else target
        found.insert(0, Match(data_site(label), label, nll, task_weight, name="task"))
    labelled = any(data_site("") in str(match.teacher) for match in found)
    return Objective(found, WithData(target=target) if labelled else None)


def matched(text: str) -> Match:
    """Parse the text of a match; see :func:`transfer`.

    Raises:
        MatchError: the text has another form, no divergence has this name, or the weight is negative.

    Example:
        >>> match = matched("layer3->layer2:vid(layers=2)@100")
        >>> match.teacher, match.student, match.weight, type(match.divergence).__name__
        ('layer3', 'layer2', 100.0, 'VID')
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
    check_weights(**{f"{text!r}: the weight": weight})
    student = teacher if student is None and named.labelled else student and student.strip()
    if named.labelled:
        teacher = f"{teacher}&{data_site(_LABELLED.get(teacher, teacher))}"
    try:
        divergence = named.divergence(**_settings(found["settings"] or ""))
    except (TypeError, DivergenceError) as error:
        raise MatchError(f"{text!r}: {name} does not take these settings: {error}") from None
    except (SyntaxError, ValueError):
        raise MatchError(f"{text!r}: settings are written as in vid(layers=2, hidden=0.5)") from None
    return Match(teacher, student, divergence, weight, name=name)


def _settings(text: str) -> dict[str, Any]:
    """Parse ``"layers=2, law=mixture"`` as arguments: Python literals, and bare words as strings."""
    call = ast.parse(f"_({text})", mode="eval").body
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError
    words = {key.arg: key.value for key in call.keywords if key.arg is not None}
    if len(words) < len(call.keywords):  # a name twice, or a dictionary with **
        raise ValueError
    return {key: value.id if isinstance(value, ast.Name) else ast.literal_eval(value) for key, value in words.items()}
