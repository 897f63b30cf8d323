"""Comparing pairs of sites: each divergence is called once for all sites whose laws have one shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from limbeck.core.objective.enclosed import module_of
from limbeck.core.stacking import family, stack, stacking_key
from limbeck.errors import DivergenceError, LimbeckError

__all__ = ["Divergence", "Pair", "compare"]

Divergence = Callable[[Distribution, Distribution], Tensor]
"""Takes the teacher's and the student's law of one site; returns one number per batch row, shape (batch,).

A function must treat rows independently, since it may get those of several sites at once; a module, also behind
``functools.partial`` or as the owner of a bound method, is called once for each site.
"""


# With fewer pairs of sites, finding out which can be stacked, and stacking them, costs more than the calls it saves.
_WORTH_STACKING = 8


@dataclass(slots=True)
class Pair:
    """A site of the teacher and the student's site that is compared with it.

    Attributes:
        name: the teacher's.
        divergence: how they are compared.
        weight: factor of the result.
        teacher: the teacher's law, batch first.
        student: the student's.
        mask: rows in which the site exists, bool of shape (batch,); ``None`` for all.
    """

    name: str
    divergence: Divergence
    weight: float
    teacher: Distribution
    student: Distribution
    mask: Tensor | None = None


def compare(pairs: Sequence[Pair]) -> dict[str, Tensor]:
    r"""Weighted divergences, averaged over rows and summed over the sites of a family.

    .. math:: \text{term}_f = \sum_{i \in f} w_i \frac1B \sum_b m_{ib} d(p_{ib}, q_{ib})

    Args:
        pairs: what is compared, in the order of the program.

    Returns:
        Name to term of shape (), in that order: the teacher's site, or its family (``"z[*]"`` for ``"z[0]"``,
        ``"z[1]"``, ...) where several of one are compared.
    """
    if len(pairs) < _WORTH_STACKING and not any("[" in pair.name for pair in pairs):
        return _one_by_one(pairs)
    counts = Counter(family(pair.name) for pair in pairs)
    terms: dict[str, Tensor | None] = {}
    groups: dict[Hashable, list[tuple[str, Pair]]] = {}
    for pair in pairs:
        name = family(pair.name)
        name = name if counts[name] > 1 else pair.name
        terms.setdefault(name)
        groups.setdefault(_group(pair), []).append((name, pair))
    for group in groups.values():
        for name, term in _stacked(group) if len(group) > 1 else [(name, _alone(pair)) for name, pair in group]:
            known = terms[name]
            terms[name] = term if known is None else known + term
    return {name: term for name, term in terms.items() if term is not None}


def _one_by_one(pairs: Sequence[Pair]) -> dict[str, Tensor]:
    """The same for a few sites outside of loops."""
    terms: dict[str, Tensor] = {}
    for pair in pairs:
        term = _alone(pair)
        terms[pair.name] = terms[pair.name] + term if pair.name in terms else term
    return terms


def _group(pair: Pair) -> Hashable:
    """Equal for pairs that one call can compare."""
    if pair.weight == 0.0 or module_of(pair.divergence) is not None:
        return id(pair)
    teacher, student = stacking_key(pair.teacher), stacking_key(pair.student)
    if teacher is None or student is None:
        return id(pair)
    return id(pair.divergence), pair.weight, teacher, student, pair.mask is None


def _alone(pair: Pair) -> Tensor:
    """The term of one pair of sites; without weight it is not looked at, since it might be infinite."""
    if pair.weight == 0.0 and module_of(pair.divergence) is None:  # whose parameters want a gradient of zero
        return torch.zeros(())
    term = _rows(pair, pair.teacher, pair.student, pair.mask, pair.name).mean()
    return term if pair.weight == 1.0 else pair.weight * term


def _stacked(group: Sequence[tuple[str, Pair]]) -> Iterator[tuple[str, Tensor]]:
    """The terms of several pairs that one call can compare, each under its name or all under the one they share."""
    names, pairs = [name for name, _ in group], [pair for _, pair in group]
    first, count = pairs[0], len(pairs)
    teacher, student = stack([pair.teacher for pair in pairs]), stack([pair.student for pair in pairs])
    mask = None if first.mask is None else torch.cat([pair.mask for pair in pairs if pair.mask is not None])
    rows = _rows(first, teacher, student, mask, ", ".join(dict.fromkeys(names)))
    if names.count(names[0]) == count:
        total = rows.sum() * (count / len(rows))
        yield names[0], total if first.weight == 1.0 else first.weight * total
    else:
        means = rows.view(count, -1).mean(1)
        yield from zip(names, (means if first.weight == 1.0 else first.weight * means).unbind(), strict=True)


def _rows(pair: Pair, teacher: Distribution, student: Distribution, mask: Tensor | None, name: str) -> Tensor:
    """A pair's divergence for each row of two laws; 0 where the mask says that the site does not exist."""
    try:
        rows = pair.divergence(teacher, student)
    except LimbeckError as error:
        raise type(error)(f"site {name!r}: {error}") from None
    count = (teacher.batch_shape or teacher.event_shape)[0]
    if rows.shape != (count,):
        raise DivergenceError(
            f"site {name!r}: the divergence returned shape {tuple(rows.shape)}, but it must be one number a row of the "
            f"laws it is given, ({count},)"
        )
    # Not a product: the divergence of rows that do not exist may be infinite.
    return rows if mask is None else torch.where(mask, rows, 0.0)
