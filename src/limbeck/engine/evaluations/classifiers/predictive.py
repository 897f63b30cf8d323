"""The predictive distribution of a classifier, its number of classes, and whether it has latents."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, OneHotCategorical

from limbeck.core.first_parameter import first_parameter
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.reparam.base_law import base_law
from limbeck.core.trace import KEEP_DISTRIBUTION, Kind, Trace, keep_fields, keep_only
from limbeck.errors import ModelError

__all__ = ["class_count", "has_latents", "predict"]


@torch.no_grad()
def predict(
    model: DGM, x: Tensor, *, draws: int = 12, generator: torch.Generator | None = None, batch_size: int = 500
) -> Tensor:
    r"""Log probabilities of a classifier's predictive distribution, by Monte Carlo over its latents ([U] Eq. 11).

    .. math:: \log p(y | x) \approx \log \frac1N \sum_n p(y | z^{(n)}, x), \quad z^{(n)} \sim p(z | x)

    Args:
        model: a model with one categorical target; in eval mode, if it has modes.
        x: conditioning input, shape (rows, ...).
        draws: number N of draws of the latents; a model without latents is run once.
        generator: source of noise.
        batch_size: rows at a time.

    Returns:
        Float64 on the CPU, shape (rows, classes).

    Raises:
        ModelError: the model has not exactly one target, or it is not a single category per row.
    """
    probe = _probe(model, x)
    targets = probe.of_kind(Kind.TARGET)
    if len(targets) != 1:
        names = ", ".join(site.name for site in targets) or "none"
        raise ModelError(f"{type(model).__name__} has the targets {names}; a classifier has a single one")
    name = targets[0].name
    if not probe.of_kind(Kind.LATENT):
        draws = 1
    first = first_parameter(model, x)
    parts = []
    for rows in torch.split(x, batch_size):
        rows = rows.to(first.device, first.dtype)
        logits = []
        for _ in range(draws):
            trace = model.trace(x=rows, keep=keep_only(name), generator=generator)
            logits.append(_logits(trace[name].distribution))
        parts.append(torch.logsumexp(torch.stack(logits), 0) - math.log(draws))
    return torch.cat(parts)


@torch.no_grad()
def class_count(model: DGM, x: Tensor) -> int | None:
    """Number of classes that a model predicts; ``None`` if its target is not a class.

    Args:
        model: any model; it stays as it is.
        x: a few rows of conditioning input, shape (rows, ...).
    """
    with frozen(model):
        laws = [_category(site.distribution) for site in _probe(model, x).of_kind(Kind.TARGET)]
    counts = [int(law.logits.shape[-1]) for law in laws if law is not None]
    return counts[0] if len(counts) == 1 else None


@torch.no_grad()
def has_latents(model: DGM, x: Tensor) -> bool:
    """Whether a model draws latents, so that it is not a function of its input.

    Args:
        model: any model.
        x: a few rows of conditioning input, shape (rows, ...).
    """
    return bool(_probe(model, x).of_kind(Kind.LATENT))


def _probe(model: DGM, x: Tensor) -> Trace:
    """A run on one row that leaves the random state unchanged."""
    first = first_parameter(model, x)
    row = x[:1].to(first.device, first.dtype)
    with torch.random.fork_rng():
        return model.trace(x=row, keep=keep_fields(KEEP_DISTRIBUTION))


def _category(law: Distribution | None) -> Categorical | OneHotCategorical | None:
    """The law, if it is of one class per row; else ``None``."""
    base = base_law(law)
    return base if isinstance(base, Categorical | OneHotCategorical) and len(base.batch_shape) == 1 else None


def _logits(law: Distribution | None) -> Tensor:
    """Normalised log probabilities, float64 on the CPU, shape (rows, classes)."""
    found = _category(law)
    if found is None:
        raise ModelError(f"a classifier's target is a Categorical of batch shape (rows,), not {law}")
    return torch.log_softmax(found.logits.double().cpu(), -1)
