"""KL between softened laws, as a function that makes a divergence of a temperature, for recipes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch import distributions as D

from limbeck.core.delta import Delta
from limbeck.core.divergence.class_logits import two_logits
from limbeck.core.divergence.information import kl
from limbeck.errors import DivergenceError

__all__ = ["tempered_kl"]


def tempered_kl(temperature: float = 2.0) -> Callable[[D.Distribution, D.Distribution], Tensor]:
    r"""``kl`` at a fixed temperature (Hinton et al., 2015), between two categorical or two Bernoulli sites.

    .. math:: d(p, q) = T^2 \, KL(p^{1/T} / Z_p \,\|\, q^{1/T} / Z_q)

    For recipes, which name functions and their arguments; in Python, ``functools.partial(kl, temperature=T)`` does the
    same. Deterministic sites of shape (batch, classes) are taken as logits, since a temperature has no other meaning
    for them.

    Args:
        temperature: T.

    Returns:
        A divergence: teacher's and student's law, batch shape (batch, ...), to nats times T squared, shape (batch,).

    Raises:
        DivergenceError: the temperature is not positive.

    Example:
        >>> import torch
        >>> p, q = (D.Categorical(logits=torch.tensor([[logit, 0.0]])) for logit in (2.0, -2.0))
        >>> bool(tempered_kl(2.0)(p, q) == kl(p, q, temperature=2.0))
        True
        >>> bool(tempered_kl(2.0)(Delta(p.logits), Delta(q.logits)) == kl(p, q, temperature=2.0))
        True
    """
    if not temperature > 0.0:
        raise DivergenceError(f"a temperature must be positive, not {temperature}")
    return partial(_tempered_kl, temperature=temperature)


def _tempered_kl(p: D.Distribution, q: D.Distribution, *, temperature: float) -> Tensor:
    if isinstance(p, Delta) or isinstance(q, Delta):
        p, q = (D.Categorical(logits=logits, validate_args=False) for logits in two_logits("tempered_kl", p, q))
    return kl(p, q, temperature=temperature)
