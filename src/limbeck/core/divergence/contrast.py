"""Contrastive representation distillation (Tian et al., 2020): find the teacher's feature of the same input."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch import distributions as D
from torch.nn import functional as F
from typing_extensions import override

from limbeck.core.divergence.features import feature_values
from limbeck.core.divergence.learned import Learned
from limbeck.core.divergence.rows import shown
from limbeck.core.precision import precise
from limbeck.errors import DivergenceError

__all__ = ["CRD"]


class CRD(Learned):
    r"""Tell the teacher's feature of the same input from those of others: noise-contrastive estimation.

    .. math:: d(t, s) = -\log h(t, s) - \sum_{j=1}^N \log (1 - h(t_j, s)), \qquad
              h(t, s) = \frac{e^{g(t) \cdot g'(s) / \tau}}{e^{g(t) \cdot g'(s) / \tau} + K}

    and the same with the two networks exchanged, as in the published experiments of Tian et al.; g and g' are linear
    maps to a sphere. K is N / M in the paper, M being the number of training rows, if the exponentials are
    normalised; as there (and in Wu et al., 2018) the normaliser is M times the mean exponential of the first batch's
    negatives, so that M cancels and K is N times that mean. Each of the two sums, with its sign changed and log N
    added, is on average at most I(t; s).

    Batches do not carry row numbers, so the negatives are the N most recent embeddings of each network, first in and
    first out, and random directions until there are N of them. This has two consequences. Where N exceeds the number
    of training rows, a few of the "negatives" are the same input seen before; the paper knows the row numbers and
    leaves these out. And embeddings are as old as the memory is long; the paper's are of the last epoch. The memory is
    saved with the objective. Under data-parallel training each process keeps its own.

    Args:
        embedding: dimensions of the sphere's space.
        negatives: N.
        temperature: tau.
        constant: K; ``None`` to estimate it from the first batch.

    Raises:
        DivergenceError: an argument is not positive.

    References:
        Tian et al., Contrastive Representation Distillation, ICLR 2020.
        Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018.
    """

    teacher: nn.Linear
    student: nn.Linear
    taught: Tensor
    learned: Tensor
    log_constants: Tensor
    place: Tensor

    def __init__(
        self,
        embedding: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        constant: float | None = None,
    ) -> None:
        super().__init__()
        if embedding < 1 or negatives < 1 or not temperature > 0.0 or (constant is not None and not constant > 0.0):
            raise DivergenceError(
                f"CRD: embedding, negatives, temperature and constant must be positive, not {embedding}, {negatives}, "
                f"{temperature} and {constant}"
            )
        self.embedding = embedding
        self.negatives = negatives
        self.temperature = temperature
        self.constant = constant

    @override
    def extra_repr(self) -> str:
        """All settings."""
        return (
            f"embedding={self.embedding}, negatives={self.negatives}, temperature={self.temperature}, "
            f"constant={self.constant}"
        )

    @override
    def size(self, p: D.Distribution, q: D.Distribution) -> None:
        """See the base class."""
        theirs, own = self._values(p, q)
        self.teacher = nn.Linear(theirs.shape[1], self.embedding)
        self.student = nn.Linear(own.shape[1], self.embedding)
        for name in ("taught", "learned"):
            self.register_buffer(name, F.normalize(torch.randn(self.negatives, self.embedding), dim=1))
        known = math.nan if self.constant is None else math.log(self.constant)
        self.register_buffer("log_constants", torch.full((2,), known, dtype=own.dtype))  # not a number: not known yet
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self.to(own.device, own.dtype)

    @override
    def forward(self, p: D.Distribution, q: D.Distribution) -> Tensor:
        """The divergence of each row; in training, the batch is then put into the memory.

        Args:
            p: the teacher's ``Delta``, value of shape (batch, features).
            q: the student's.

        Returns:
            Shape (batch,), summed over the negatives.

        Raises:
            DivergenceError: a site is not a vector.
        """
        self.check_sized()
        theirs, own = self._values(p, q)
        taught, learned = (
            F.normalize(precise(layer(x)), dim=1) for layer, x in ((self.teacher, theirs), (self.student, own))
        )
        # Copies: the memories change before the gradient is taken.
        others, theirs = precise(self.learned.clone()), precise(self.taught.clone())
        rows = self._cost(taught, learned, others, 0) + self._cost(learned, taught, theirs, 1)
        if self.training:
            self._remember(taught, learned)
        return rows

    def _cost(self, anchor: Tensor, partner: Tensor, others: Tensor, side: int) -> Tensor:
        """Cost of telling each anchor's partner, shape (batch, embedding), from the others, shape (N, embedding)."""
        positive = (anchor * partner).sum(1) / self.temperature
        negative = precise(anchor @ others.T) / self.temperature
        with torch.no_grad():
            known = self.log_constants[side]
            estimate = negative.logsumexp((0, 1)) - math.log(len(anchor))  # log of N times the mean
            log_constant = torch.where(known.isnan(), estimate, known)
            if self.training:
                self.log_constants[side] = log_constant
        # log h and log(1 - h) are logistic functions of the log-odds.
        return F.softplus(log_constant - positive) + F.softplus(negative - log_constant).sum(1)

    @torch.no_grad()
    def _remember(self, taught: Tensor, learned: Tensor) -> None:
        taught, learned = taught[-self.negatives :], learned[-self.negatives :]
        places = (self.place + torch.arange(len(taught), device=self.place.device)) % self.negatives
        self.taught.index_copy_(0, places, taught.to(self.taught.dtype))
        self.learned.index_copy_(0, places, learned.to(self.learned.dtype))
        self.place.copy_((self.place + len(taught)) % self.negatives)

    @staticmethod
    def _values(p: D.Distribution, q: D.Distribution) -> tuple[Tensor, Tensor]:
        theirs, own = feature_values("CRD", p, q)
        if theirs.ndim != 2 or own.ndim != 2:
            raise DivergenceError(
                f"CRD compares vectors of shape (batch, features), not {shown(p)} and {shown(q)}: match 'penultimate'"
            )
        return theirs, own
