"""Several draws of the noise a row: the law of a target becomes the mixture over them ([U] Eq. 11)."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, MixtureSameFamily, OneHotCategorical

from limbeck.core.stacking import given_parameters
from limbeck.core.trace import Kind, Site, Trace
from limbeck.errors import MatchError

__all__ = ["mixed_targets", "mixture"]


def mixed_targets(trace: Trace, samples: int, who: str, instead: str) -> Trace:
    """A run of several draws a row as one of a row: the law of its single target becomes the mixture over the draws.

    Args:
        trace: ``samples`` consecutive rows are draws of one row.
        samples: number of draws.
        who: what needs it, for a message.
        instead: what to use where it is not possible.

    Raises:
        MatchError: another site than a target was matched, or several targets.
    """
    mixed: dict[str, Site] = {}
    for name, site in trace.items():
        if site.kind is not Kind.TARGET or site.distribution is None:
            raise MatchError(f"site {name!r}: only targets can be compared when each side has its own noise")
        mixed[name] = Site(name, site.kind, site.law, mixture(site.distribution, samples))
    if len(mixed) > 1:
        raise MatchError(
            f"{who} needs a single target, but {', '.join(mixed)} were matched: a product of "
            f"mixtures is not the mixture of the products; use {instead}"
        )
    return Trace(mixed, trace.batch_size // samples, trace.declared)


def mixture(distribution: Distribution, samples: int) -> Distribution:
    """Equal-weight mixture of each run of ``samples`` rows ([U] Eq. 11).

    Args:
        distribution: batch shape (batch * samples, ...).
        samples: number of consecutive rows that are draws of one row.

    Returns:
        The mixture; batch shape (batch, ...) for one discrete variable a row, else (batch,).

    Example:
        >>> two = Categorical(probs=torch.tensor([[0.2, 0.8], [0.6, 0.4]]))
        >>> mixture(two, 2).probs
        tensor([[0.4000, 0.6000]])
    """
    base = distribution
    while isinstance(base, Independent):
        base = base.base_dist
    rows = base.batch_shape[0] // samples
    single = base.batch_shape[1:].numel() == 1
    if single and isinstance(base, Categorical | OneHotCategorical):
        logits = base.logits.reshape(rows, samples, *base.logits.shape[1:])
        mean = torch.logsumexp(logits - torch.logsumexp(logits, -1, keepdim=True), dim=1)
        return type(base)(logits=mean, validate_args=False)
    if single and isinstance(base, Bernoulli):
        return Bernoulli(probs=base.probs.reshape(rows, samples, *base.batch_shape[1:]).mean(1), validate_args=False)
    whole = Independent(base, len(base.batch_shape) - 1)
    parts = _reshape_rows(whole, rows, samples)
    weights = Categorical(logits=torch.zeros(rows, samples, device=base.mean.device, dtype=base.mean.dtype))
    return MixtureSameFamily(weights, parts, validate_args=False)


def _reshape_rows(distribution: Independent[Any], rows: int, samples: int) -> Distribution:
    """View a batch of ``rows * samples`` as (rows, samples), for any law whose parameters are listed."""
    base = distribution.base_dist
    parameters = {
        name: getattr(base, name).expand(base.batch_shape + getattr(base, name).shape[len(base.batch_shape) :])
        for name in given_parameters(base)
    }
    reshaped = {name: value.reshape(rows, samples, *value.shape[1:]) for name, value in parameters.items()}
    return Independent(type(base)(**reshaped, validate_args=False), distribution.reinterpreted_batch_ndims)
