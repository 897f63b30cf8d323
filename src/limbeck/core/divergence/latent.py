"""The divergence between latents that [U] uses: one for discrete, another for continuous ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch import distributions as D

from limbeck.core.divergence.information import kl
from limbeck.core.divergence.rows import describe
from limbeck.core.divergence.transport import wasserstein2
from limbeck.core.reparam import is_discrete
from limbeck.errors import DivergenceError

__all__ = ["latent_default"]

_normalized_wasserstein2 = partial(wasserstein2, normalize=True)


def latent_default(
    p: D.Distribution,
    q: D.Distribution,
    *,
    discrete: Callable[[D.Distribution, D.Distribution], Tensor] = kl,
    continuous: Callable[[D.Distribution, D.Distribution], Tensor] = _normalized_wasserstein2,
) -> Tensor:
    """Latent distillation loss ([U] Eq. 6, App. F): KL if discrete, else squared 2-Wasserstein over the size.

    The paper divides "w.r.t. the size" of a latent and does not say whether it does so with the KL too; here the KL is
    a sum.

    Args:
        p: the teacher's distribution, values of shape ``(batch, ...)``.
        q: the student's, of the same shape.
        discrete: the divergence between discrete latents.
        continuous: the divergence between continuous (or deterministic) ones.

    Returns:
        Shape ``(batch,)``.

    Raises:
        DivergenceError: if one side is discrete and the other is not, or the chosen divergence does not apply.

    Example:
        >>> import torch
        >>> latent_default(D.Normal(torch.zeros(2, 3), 1.0), D.Normal(torch.ones(2, 3), 1.0))
        tensor([1., 1.])
    """
    is_discrete_p = is_discrete(p)
    if is_discrete_p != is_discrete(q):
        raise DivergenceError(
            f"{describe(p)} and {describe(q)}: one is discrete and the other is not, so no divergence compares them"
        )
    return discrete(p, q) if is_discrete_p else continuous(p, q)
