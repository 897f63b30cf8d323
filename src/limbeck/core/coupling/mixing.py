"""Several draws of the noise per row: the law of a target becomes the mixture over them ([U] Eq. 11)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, MixtureSameFamily, OneHotCategorical

from limbeck.core.reparam.base_law import base_law
from limbeck.core.stacking import given_parameters
from limbeck.core.trace import Kind, Site, Trace
from limbeck.errors import MatchError

__all__ = ["mixed_targets", "mixture"]


def mixed_targets(trace: Trace, samples: int, who: str, instead: str) -> Trace:
    """Merge the draws of each row of a run: the law of its single target becomes the mixture over them.

    Args:
        trace: ``samples`` consecutive rows are draws of one row.
        samples: number of draws.
        who: the method that needs it, for a message.
        instead: what the message recommends where it is not possible.

    Raises:
        MatchError: another site than a target was matched, or several targets were; or its law cannot be mixed, or it
            exists in some draws of a row and not in others.
    """
    mixed: dict[str, Site] = {}
    for name, site in trace.items():
        if site.kind is not Kind.TARGET or site.distribution is None:
            raise MatchError(f"site {name!r}: only targets can be compared when each side has its own noise")
        try:
            law = mixture(site.distribution, samples)
        except MatchError as error:
            raise MatchError(f"site {name!r}: {error}; use {instead}") from None
        mixed[name] = Site(name, site.kind, site.law, law, mask=_mask_of_rows(site, samples))
    if len(mixed) > 1:
        raise MatchError(
            f"{who} needs a single target, but {', '.join(mixed)} were matched: a product of "
            f"mixtures is not the mixture of the products; use {instead}"
        )
    return Trace(mixed, trace.batch_size // samples, trace.declared)


def _mask_of_rows(site: Site, samples: int) -> Tensor | None:
    if site.mask is None:
        return None
    draws = site.mask.view(-1, samples)
    if not torch.equal(draws.any(1), draws.all(1)):
        raise MatchError(
            f"site {site.name!r}: it exists in some of the {samples} draws of a row and not in others; when each side "
            "has its own noise, only a mask that x alone tells can be compared"
        )
    return draws[:, 0]


def mixture(distribution: Distribution, samples: int) -> Distribution:
    """Equal-weight mixture of each run of ``samples`` rows ([U] Eq. 11).

    Args:
        distribution: batch shape (batch * samples, ...).
        samples: number of consecutive rows that are draws of one row.

    Returns:
        The mixture; batch shape (batch, ...) for one discrete variable per row, else (batch,).

    Raises:
        MatchError: the law cannot be made again from its parameters, such as one that is itself a mixture, or one of
            whose constructor ``arg_constraints`` does not tell all.

    Example:
        >>> two = Categorical(probs=torch.tensor([[0.2, 0.8], [0.6, 0.4]]))
        >>> mixture(two, 2).probs
        tensor([[0.4000, 0.6000]])
    """
    base = base_law(distribution)
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
    equal = torch.zeros(rows, samples, device=base.mean.device, dtype=base.mean.dtype)
    weights = Categorical(logits=equal, validate_args=False)  # the check would read a number back from a GPU
    return MixtureSameFamily(weights, parts, validate_args=False)


def _reshape_rows(distribution: Independent[Any], rows: int, samples: int) -> Distribution:
    """View a batch of ``rows * samples`` as (rows, samples), for any law that can be made again from its parameters."""
    base = distribution.base_dist
    parameters = {
        name: getattr(base, name).expand(base.batch_shape + getattr(base, name).shape[len(base.batch_shape) :])
        for name in given_parameters(base)
    }
    reshaped = {name: value.reshape(rows, samples, *value.shape[1:]) for name, value in parameters.items()}
    try:
        made = type(base)(**reshaped, validate_args=False)
    except TypeError:  # its constructor needs more than its parameters
        raise MatchError(f"no mixture can be made of the draws' {type(base).__name__} laws") from None
    return Independent(made, distribution.reinterpreted_batch_ndims)
