"""The KL between categorical laws, from their log-probabilities."""

from __future__ import annotations

from torch import Tensor

from limbeck.core.divergence.class_logits import OTHER_CLASSES
from limbeck.errors import DivergenceError

__all__ = ["categorical_kl"]


def categorical_kl(log_p: Tensor, log_q: Tensor, probs: Tensor | None = None) -> Tensor:
    r"""KL between categorical laws: :math:`\sum_k p_k (\log p_k - \log q_k)`, with :math:`0 \log 0 = 0`.

    Args:
        log_p: the teacher's log-probabilities, shape (..., categories); those of impossible categories are ``-inf``.
        log_q: the student's, of the same shape.
        probs: the teacher's probabilities, where they are known already.

    Returns:
        Shape (...), in nats.

    Raises:
        DivergenceError: the numbers of categories differ.

    Example:
        >>> import torch
        >>> categorical_kl(torch.tensor([[0.5, 0.5, 0.0]]).log(), torch.tensor([[0.25, 0.75, 0.0]]).log())
        tensor([0.1438])
    """
    if log_p.shape != log_q.shape:
        raise DivergenceError(
            f"the teacher has {log_p.shape[-1]} categories (logits of shape {tuple(log_p.shape)}), "
            f"the student {log_q.shape[-1]} (logits of shape {tuple(log_q.shape)}); {OTHER_CLASSES}"
        )
    if probs is None:
        probs = log_p.exp()
    # Masked before the product, so that no NaN reaches the gradient either.
    return (probs * (log_p - log_q).masked_fill(probs == 0, 0.0)).sum(-1)
