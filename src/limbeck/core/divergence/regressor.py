"""A learned map between features of unequal width (FitNets, Romero et al. 2015, Eq. 3)."""

from __future__ import annotations

from torch import Tensor, nn
from torch import distributions as D

from limbeck.core.delta import Delta
from limbeck.core.divergence.rows import describe
from limbeck.core.divergence.transport import lp
from limbeck.errors import DivergenceError

__all__ = ["Regressor"]


class Regressor(nn.Module):
    r"""Distance between the teacher's feature and a learned affine map of the student's narrower (or wider) one.

    .. math:: d(p, q) = \left\| a - (W b + c) \right\|_p

    W acts on the channels, the same at every position: a matrix for vectors, a 1x1 convolution for maps. It trains with
    the student and is thrown away with the objective. W starts as the identity, cut or padded with zeros, so that a
    student of the teacher's width starts from :func:`lp` itself, and so that every process starts from the same.

    Args:
        student: channels of the student's feature, dimension 1 of its value.
        teacher: channels of the teacher's.
        order: as for :func:`lp`.
        normalize: as for :func:`lp`.
        root: as for :func:`lp`.

    Raises:
        DivergenceError: a number of channels is not positive.

    Example:
        >>> import torch
        >>> wide, narrow = Delta(torch.tensor([[3.0, 4.0]])), Delta(torch.tensor([[3.0]]))
        >>> Regressor(student=1, teacher=2, order=2)(wide, narrow)
        tensor([4.], grad_fn=<MaskedFillBackward0>)
    """

    def __init__(
        self, student: int, teacher: int, order: float = 2.0, normalize: bool = False, root: bool = True
    ) -> None:
        super().__init__()
        if student < 1 or teacher < 1:
            raise DivergenceError(f"Regressor: channels must be positive, not {student} and {teacher}")
        self.order = order
        self.normalize = normalize
        self.root = root
        self.linear = nn.Linear(student, teacher)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, p: D.Distribution, q: D.Distribution) -> Tensor:
        """The distance a row.

        Args:
            p: the teacher's ``Delta``, value of shape (batch, teacher, ...).
            q: the student's ``Delta``, value of shape (batch, student, ...).

        Returns:
            Shape (batch,).

        Raises:
            DivergenceError: a site is random, or its channels are not those given.
        """
        if not (isinstance(p, Delta) and isinstance(q, Delta)):
            raise DivergenceError(
                f"Regressor compares two deterministic sites, not {describe(p)} and {describe(q)}: use kl or "
                "wasserstein2"
            )
        feature = q.value
        if feature.ndim < 2 or feature.shape[1] != self.linear.in_features:
            raise DivergenceError(
                f"Regressor expects a student's feature of {self.linear.in_features} channels in dimension 1, but its "
                f"shape is {tuple(feature.shape)}"
            )
        mapped: Tensor = self.linear(feature.movedim(1, -1)).movedim(-1, 1)
        return lp(p, Delta(mapped), order=self.order, normalize=self.normalize, root=self.root)
