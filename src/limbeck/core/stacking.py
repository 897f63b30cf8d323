"""Laws of several sites as one law with more rows, so that a divergence is called once for all of them.

A sequence of 200 steps has 400 small sites. On each, a divergence is a dozen operations on a few numbers, so that most
of the time goes into the calls. Rows are independent, so the sites can be rows.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import distributions as D
from torch.distributions import Distribution

from limbeck.core.custom_law import CustomLaw
from limbeck.core.delta import Delta
from limbeck.errors import MatchError

__all__ = ["family", "given_parameters", "stack", "stacking_key"]

# With more numbers than this in a site, copying its parameters costs more than the calls that are saved.
_LARGEST = 1 << 15

# What each class can be made again from, as keywords of its constructor. Named here, since some keep them in a law that
# they wrap: torch's one-hot categorical and beta.
_PLAIN: Mapping[type, tuple[str, ...]] = {
    D.Bernoulli: ("logits", "probs"),
    D.Beta: ("concentration1", "concentration0"),
    D.Categorical: ("logits", "probs"),
    D.Cauchy: ("loc", "scale"),
    D.Exponential: ("rate",),
    D.Gamma: ("concentration", "rate"),
    D.Geometric: ("logits", "probs"),
    D.Laplace: ("loc", "scale"),
    D.MultivariateNormal: ("loc", "scale_tril"),
    D.Normal: ("loc", "scale"),
    D.OneHotCategorical: ("logits",),
    D.Poisson: ("rate",),
    D.StudentT: ("df", "loc", "scale"),
    D.Uniform: ("low", "high"),
}

# The same of classes that are not stacked. What else the first one takes is a threshold of its arithmetic.
_ALONE: Mapping[type, tuple[str, ...]] = {
    D.ContinuousBernoulli: ("logits", "probs"),
    D.OneHotCategoricalStraightThrough: ("logits",),
}


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
        shape, names = law.batch_shape, given_parameters(law)
        # A categorical's value is one number, whatever the number of its classes.
        event = getattr(law, names[0]).shape[-1:] if kind is D.Categorical else law.event_shape
        if not shape or shape.numel() * event.numel() > _LARGEST:
            return None
        # The names distinguish a categorical with logits from one with probabilities.
        return kind, shape, event, names
    if isinstance(law, D.Independent):
        base = stacking_key(law.base_dist)
        return None if base is None else (kind, base, law.reinterpreted_batch_ndims)
    if kind is D.MixtureSameFamily:
        parts = stacking_key(law.mixture_distribution), stacking_key(law.component_distribution)
        alone = None in parts or law.mixture_distribution.batch_shape != law.batch_shape  # or weights that rows share
        return None if alone else (kind, *parts)
    if kind is Delta:
        return None if law.value.numel() > _LARGEST else (kind, law.value.shape, law.event_shape, law.value.dtype)
    if not _stackable(kind):
        return None
    own: CustomLaw = law
    return kind, own.stacking_key


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
    stacked: Distribution = kind.stack(laws)  # see CustomLaw
    return stacked


@functools.cache
def _stackable(kind: type) -> bool:
    # See CustomLaw. Asked once per class: isinstance of a protocol looks up all its names at every site of every step.
    return hasattr(kind, "stacking_key") and hasattr(kind, "stack")


def given_parameters(law: Distribution) -> tuple[str, ...]:
    """Names of the parameters, as keywords of its constructor, from which a law can be made again.

    Raises:
        MatchError: its constructor takes more than ``arg_constraints`` tells: made from these alone, it would be
            another law.
    """
    kind = type(law)
    names = _PLAIN.get(kind) or _ALONE.get(kind)
    if names is None:
        needed, taken = _constructor(kind)  # type: ignore[arg-type]
        names = tuple(name for name in taken if name in needed or name in law.__dict__)
    if "logits" in names and "probs" in names:
        # torch computes one from the other on first use and keeps both, but its constructors take only one.
        other = "probs" if "logits" in law.__dict__ else "logits"
        return tuple(name for name in names if name != other)
    return names


@functools.cache
def _constructor(kind: type[Distribution]) -> tuple[frozenset[str], tuple[str, ...]]:
    """The parameters that the constructor of a class must be given, and all those that it takes."""
    taken = {name: each for name, each in inspect.signature(kind).parameters.items() if name != "validate_args"}
    # A property, where it depends on the law.
    told: Any = kind.arg_constraints if isinstance(kind.arg_constraints, Mapping) else {}
    if more := [name for name in taken if name not in told]:
        raise MatchError(
            f"a {kind.__name__} cannot be made again from its parameters: its constructor takes {more[0]!r}, which its "
            f"arg_constraints ({', '.join(told) or 'none'}) do not tell"
        )
    if issubclass(kind, D.MultivariateNormal):
        return frozenset(), ("loc", "scale_tril")
    return frozenset(name for name, each in taken.items() if each.default is inspect.Parameter.empty), tuple(taken)
