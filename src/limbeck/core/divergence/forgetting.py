"""Learning without forgetting (Li & Hoiem, 2017): a head on the student that predicts the teacher's outputs."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch import distributions as D
from torch.nn import functional as F
from typing_extensions import override

from limbeck.choices import check_choice
from limbeck.core.divergence.class_logits import logits_of
from limbeck.core.divergence.features import feature_values
from limbeck.core.divergence.learned import Learned
from limbeck.core.divergence.rows import shown
from limbeck.core.precision import precise
from limbeck.errors import DivergenceError

__all__ = ["LwF"]

HeadLoss = Literal["cross-entropy", "squared"]


class LwF(Learned):
    r"""Predict the teacher's logits by a learned linear layer on the student's penultimate feature.

    ``loss="cross-entropy"`` is the loss of Li & Hoiem (Eq. 2, 3), at temperature T:

    .. math:: d(t, s) = -\sum_n p_n \log q_n, \qquad p = \text{softmax}(t / T), \quad q = \text{softmax}((W s + b) / T)

    and ``loss="squared"`` is its form in [V] Eq. 7, with a Gaussian of unit variance, over the N logits as in Eq. 8:

    .. math:: d(t, s) = \frac{1}{2N} \sum_n (t_n - (W s + b)_n)^2

    There t are the teacher's logits where the site is deterministic (``"logits"``); of a categorical site only
    log-probabilities are known, which are its logits up to a number per row.

    So a student can learn from a teacher of other classes, whose outputs cannot be compared with its own.

    Args:
        loss: which of the two.
        temperature: T of the cross-entropy.
        normalize: divide the squared error by N.

    Raises:
        DivergenceError: the loss is neither, or the temperature is not positive.

    Example:
        >>> import torch
        >>> from limbeck.core.delta import Delta
        >>> logits, penultimate = Delta(torch.randn(4, 10)), Delta(torch.randn(4, 64))
        >>> LwF().fitted(logits, penultimate)(logits, penultimate).shape
        torch.Size([4])

    References:
        Li & Hoiem, Learning without Forgetting, IEEE TPAMI 2017.
    """

    head: nn.Linear

    def __init__(self, loss: HeadLoss = "cross-entropy", temperature: float = 2.0, normalize: bool = True) -> None:
        super().__init__()
        check_choice(DivergenceError, "LwF: loss", loss, HeadLoss)
        if not temperature > 0.0:
            raise DivergenceError(f"a temperature must be positive, not {temperature}")
        self.loss = loss
        self.temperature = temperature
        self.normalize = normalize

    @override
    def extra_repr(self) -> str:
        """All settings."""
        return f"loss={self.loss!r}, temperature={self.temperature}, normalize={self.normalize}"

    @override
    def size(self, p: D.Distribution, q: D.Distribution) -> None:
        """See the base class."""
        theirs, own = self._values(p, q)
        self.head = nn.Linear(own.shape[1], theirs.shape[1], device=own.device, dtype=own.dtype)

    @override
    def forward(self, p: D.Distribution, q: D.Distribution) -> Tensor:
        """The divergence of each row.

        Args:
            p: the teacher's logits: a ``Delta`` of shape (batch, classes), or a categorical.
            q: the student's ``Delta``, value of shape (batch, features).

        Returns:
            Shape (batch,).

        Raises:
            DivergenceError: a site is of another kind.
        """
        self.check_sized()
        theirs, own = self._values(p, q)
        theirs, predicted = precise(theirs), precise(self.head(own))
        if self.loss == "squared":
            errors = 0.5 * (theirs - predicted).square()
            return errors.mean(1) if self.normalize else errors.sum(1)
        soft = (theirs / self.temperature).softmax(1)
        return F.cross_entropy(predicted / self.temperature, soft, reduction="none")

    @staticmethod
    def _values(p: D.Distribution, q: D.Distribution) -> tuple[Tensor, Tensor]:
        theirs = logits_of(p)
        if theirs is None:
            raise DivergenceError(f"LwF learns from logits of shape (batch, classes), not from {shown(p)}")
        _, own = feature_values("LwF", q, q)
        if own.ndim != 2 or len(own) != len(theirs):
            raise DivergenceError(
                f"LwF needs the student's feature as vectors, (batch, features), beside {shown(p)}, not {shown(q)}: "
                "match 'logits->penultimate:lwf'"
            )
        return theirs, own
