"""A learned map between features of unequal shapes (FitNets, Romero et al. 2015, Eq. 3)."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch import distributions as D
from typing_extensions import override

from limbeck.core.delta import Delta
from limbeck.core.divergence.features import feature_values
from limbeck.core.divergence.learned import Learned
from limbeck.core.divergence.mean_network import Grid, MeanNetwork
from limbeck.core.divergence.transport import lp
from limbeck.core.precision import precise
from limbeck.errors import DivergenceError

__all__ = ["Regressor"]


class Regressor(Learned):
    r"""Distance between the teacher's feature and a learned affine map of the student's narrower (or wider) one.

    .. math:: d(p, q) = \left\| a - (W b + c) \right\|_p

    W acts on the channels, the same at every position: a matrix for vectors, a 1x1 convolution for maps. It trains with
    the student and is thrown away with the objective. W starts as the identity, cut or padded with zeros, so that a
    student of the teacher's width starts from :func:`lp` itself, and so that all processes start from the same weights.

    Without numbers of channels it is a template, which is sized to each pair of sites. Then the maps may also be of
    unequal size, or a vector and a map, as in :class:`~limbeck.core.divergence.mean_network.MeanNetwork`, whose larger
    kernels start from random weights. With ``normalize=True, root=False`` and order 2 it is the FitNet of [V] Sec. 2.2,
    the mean squared error after one 1x1 convolution; the halves of Romero et al., Eq. 3, and [V] Eq. 7 are left to the
    weight.

    Args:
        student: channels of the student's feature, dimension 1 of its value; ``None`` to find out.
        teacher: channels of the teacher's; ``None`` to find out.
        order: as for :func:`lp`.
        normalize: as for :func:`lp`.
        root: as for :func:`lp`.

    Raises:
        DivergenceError: a number of channels is not positive, or only one of the two is given.

    Example:
        >>> import torch
        >>> wide, narrow = Delta(torch.tensor([[3.0, 4.0]])), Delta(torch.tensor([[3.0]]))
        >>> Regressor(student=1, teacher=2, order=2)(wide, narrow)
        tensor([4.], grad_fn=<MaskedFillBackward0>)
        >>> Regressor().fitted(wide, narrow)(wide, narrow)
        tensor([4.], grad_fn=<MaskedFillBackward0>)
    """

    network: MeanNetwork

    def __init__(
        self,
        student: int | None = None,
        teacher: int | None = None,
        order: float = 2.0,
        normalize: bool = False,
        root: bool = True,
    ) -> None:
        super().__init__()
        self.order = order
        self.normalize = normalize
        self.root = root
        self.channels = None if student is None or teacher is None else (student, teacher)
        if (student is None) != (teacher is None):
            raise DivergenceError("Regressor: give the channels of both models, or of neither to have it find out")
        if self.channels is not None:
            if min(self.channels) < 1:
                raise DivergenceError(f"Regressor: channels must be positive, not {student} and {teacher}")
            self.linear = nn.Linear(*self.channels)
            _start(self.linear)
            self.sized = True

    @override
    def extra_repr(self) -> str:
        """All settings."""
        return f"channels={self.channels}, order={self.order}, normalize={self.normalize}, root={self.root}"

    @override
    def fitted(self, p: D.Distribution, q: D.Distribution) -> Self:
        """A copy for two sites; this regressor itself, if its numbers of channels were given."""
        return self if self.sized else super().fitted(p, q)

    @override
    def size(self, p: D.Distribution, q: D.Distribution) -> None:
        """See the base class."""
        theirs, own = feature_values("Regressor", p, q)
        self.network = MeanNetwork(own.shape[1:], theirs.shape[1:])
        if len(self.network.pointwise):
            _start(self.network.pointwise[0])
        self.to(own.device, own.dtype)

    @override
    def forward(self, p: D.Distribution, q: D.Distribution) -> Tensor:
        """The distance of each row.

        Args:
            p: the teacher's ``Delta``, value of shape (batch, teacher, ...).
            q: the student's ``Delta``, value of shape (batch, student, ...).

        Returns:
            Shape (batch,).

        Raises:
            DivergenceError: a site is random, or its channels are not those given.
        """
        self.check_sized()
        theirs, own = feature_values("Regressor", p, q)
        if self.channels is None:
            predicted = self.network(own)
            target = Grid().of(theirs)
        else:
            if own.shape[1] != self.channels[0]:
                raise DivergenceError(
                    f"Regressor expects a student's feature of {self.channels[0]} channels in dimension 1, but its "
                    f"shape is {tuple(own.shape)}; give it the right number, or no numbers to have it find out"
                )
            predicted, target = self.linear(own.movedim(1, -1)).movedim(-1, 1), theirs
        return lp(
            Delta(precise(target)),
            Delta(precise(predicted)),
            order=self.order,
            normalize=self.normalize,
            root=self.root,
        )


@torch.no_grad()
def _start(layer: nn.Module) -> None:
    """Set a layer to the identity, cut or padded with zeros."""
    assert isinstance(layer, (nn.Linear, nn.Conv2d))
    layer.weight.copy_(torch.eye(*layer.weight.shape[:2]).view_as(layer.weight))
    if layer.bias is not None:
        layer.bias.zero_()
