"""KL between softened laws, with the temperature as a setting that a recipe can name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch import distributions as D

from limbeck.core.divergence.information import kl
from limbeck.errors import DivergenceError

__all__ = ["tempered_kl"]


def tempered_kl(temperature: float = 2.0) -> Callable[[D.Distribution, D.Distribution], Tensor]:
    r"""``kl`` at a fixed temperature (Hinton et al., 2015), between two categorical or two Bernoulli sites.

    .. math:: d(p, q) = T^2 \, KL(p^{1/T} / Z_p \,\|\, q^{1/T} / Z_q)

    For recipes, which name functions and their arguments; in Python ``functools.partial(kl, temperature=T)`` is it.

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
    """
    if not temperature > 0.0:
        raise DivergenceError(f"a temperature must be positive, not {temperature}")
    return partial(kl, temperature=temperature)
