"""Laws of several sites as one law with more rows, so that a divergence is called once for all of them.

A sequence of 200 steps has 400 small sites; on each, a divergence is a dozen operations on a few numbers, and what they
cost is the calls. Rows are independent, so the sites can be rows.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Sequence
from typing import Any, Protocol, Self

import torch
from torch import distributions as D
from torch.distributions import Distribution

from limbeck.core.delta import Delta

__all__ = ["Stackable", "family", "given_parameters", "stack", "stacking_key"]

# Above this many numbers a site, copying its parameters costs more than the calls that are saved.
_LARGEST = 1 << 15

_PLAIN = frozenset({
    D.Bernoulli, D.Beta, D.Categorical, D.Cauchy, D.Exponential, D.Gamma, D.Geometric, D.Laplace, D.MultivariateNormal,
    D.Normal, D.OneHotCategorical, D.Poisson, D.StudentT, D.Uniform,
})  # fmt: skip


class Stackable(Protocol):
    """What a law of one's own offers to be stacked; torch's usual ones need nothing."""

    @property
    def stacking_key(self) -> Hashable:
        """Equal for two laws of the class only if :meth:`stack` accepts both."""

    @classmethod
    def stack(cls, laws: Sequence[Any]) -> Self:
        """One law whose rows are those of ``laws``, one after another."""


@functools.cache
def family(name: str) -> str:
    """The name of a site with every index in brackets replaced by a star.

    >>> family("z[3]"), family("block[2].mean[0]"), family("z3")
    ('z[*]', 'block[*].mean[*]', 'z3')
    """
    return re.sub(r"\[\d+\]", "[*]", name) if "[" in name else name


def stacking_key(law: Any) -> Hashable | None:
    """Equal for two laws only if they can be stacked; ``None`` if a law cannot be stacked with any.

    >>> wide, narrow = D.Normal(torch.zeros(2, 3), 1.0), D.Normal(torch.zeros(2, 1), 1.0)
    >>> stacking_key(wide) == stacking_key(narrow), stacking_key(D.Gumbel(0.0, 1.0)) is None
    (False, True)
    """
    kind: Any = type(law)
    if kind in _PLAIN:
        shape = law.batch_shape
        if not shape or shape.numel() * law.event_shape.numel() > _LARGEST:
            return None
        # The names tell a categorical with logits from one with probabilities.
        return kind, shape, law.event_shape, given_parameters(law)
    if isinstance(law, D.Independent):
        base = stacking_key(law.base_dist)
        return None if base is None else (kind, base, law.reinterpreted_batch_ndims)
    if kind is D.MixtureSameFamily:
        parts = stacking_key(law.mixture_distribution), stacking_key(law.component_distribution)
        return None if None in parts else (kind, *parts)
    if kind is Delta:
        return None if law.value.numel() > _LARGEST else (kind, law.value.shape, law.event_shape, law.value.dtype)
    return (kind, law.stacking_key) if _stackable(kind) else None


def stack(laws: Sequence[Distribution]) -> Distribution:
    """One law whose rows are those of all the given ones.

    Args:
        laws: n laws with one :func:`stacking_key`, batch shape (batch, ...).

    Returns:
        A law of the same kind, batch shape (n * batch, ...): first all rows of the first, then of the second, ...

    Example:
        >>> stack([D.Normal(torch.zeros(2), 1.0), D.Normal(torch.ones(2), 1.0)]).loc
        tensor([0., 0., 1., 1.])
    """
    first: Any = laws[0]
    kind = type(first)
    if isinstance(first, D.Independent):
        base = stack([law.base_dist for law in laws if isinstance(law, D.Independent)])
        return D.Independent(base, first.reinterpreted_batch_ndims, validate_args=False)
    if kind is D.MixtureSameFamily:
        mixtures = [law for law in laws if isinstance(law, D.MixtureSameFamily)]
        return D.MixtureSameFamily(
            stack([law.mixture_distribution for law in mixtures]),  # type: ignore[arg-type]
            stack([law.component_distribution for law in mixtures]),
            validate_args=False,
        )
    if kind is Delta:
        return Delta(torch.cat([law.value for law in laws if isinstance(law, Delta)]), len(first.event_shape))
    if kind in _PLAIN:
        parameters = {name: torch.cat([getattr(law, name) for law in laws]) for name in given_parameters(first)}
        made: Distribution = kind(**parameters, validate_args=False)
        return made
    stacked: Distribution = first.stack(laws)
    return stacked


@functools.cache
def _stackable(kind: type) -> bool:
    # Asked once a class: isinstance of a protocol looks up every name of it at every site of every step.
    return hasattr(kind, "stacking_key") and hasattr(kind, "stack")


def given_parameters(law: Distribution) -> tuple[str, ...]:
    """Names of the parameters that a law can be made again from, by its constructor's keywords."""
    if isinstance(law, D.MultivariateNormal):
        return ("loc", "scale_tril")
    names = tuple(name for name in law.arg_constraints if name in law.__dict__)
    if "logits" in names and "probs" in names:
        # torch computes one from the other on first use and keeps both, but its constructors take only one.
        return tuple(name for name in names if name != "probs")
    return names
