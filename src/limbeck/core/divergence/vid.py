"""Variational information distillation: the teacher's feature is a random variable, predicted from the student's."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch import distributions as D
from typing_extensions import override

from limbeck.choices import check_choice
from limbeck.core.divergence.features import feature_values
from limbeck.core.divergence.mean_network import Grid, MeanNetwork
from limbeck.core.divergence.moments import Moments
from limbeck.core.divergence.observation import Observation, ObservationLaw, observation
from limbeck.core.divergence.observation_model import ObservationModel
from limbeck.core.precision import precise
from limbeck.errors import DivergenceError

__all__ = ["VID"]


class VID(ObservationModel):
    r"""Negative log-likelihood of the teacher's feature t under a law that is learned, given the student's s.

    .. math:: d(t, s) = -\frac1N \sum_{c,h,w} \log q(t_{chw} \mid s)
              = \frac1N \sum_{c,h,w} \frac12 \log 2\pi\sigma_c^2 + \frac{(t_{chw} - \mu_{chw}(s))^2}{2\sigma_c^2}

    [V] Eq. 5 with its constant, over the N elements of a row of t as in Eq. 8. Up to the entropy of t, which no
    parameter changes, minus the sum is a lower bound of the mutual information I(t; s) (Eq. 3), whatever mu and sigma
    are; both are learned with the student. For mu see :class:`~limbeck.core.divergence.mean_network.MeanNetwork`.
    The defaults are those of [V] App. A.2 for distillation, but for ``positions``, of which the paper uses all; for
    transfer learning it has ``layers=2, hidden=0.5``. For logits given penultimate features (VID-LP, Eq. 6), mu is a
    matrix: ``bias=False``.

    ``observed["information"]`` estimates how much the student's features tell about the teacher's, in nats per row:

    .. math:: E \log q(t \mid s) - E \log q_0(t)

    with q_0 the best Gaussian with one mean and one variance per channel over the training so far. That is [V] Eq. 3
    with the entropy of t replaced by its cross-entropy to q_0: not a bound of I(t; s), but the information that a
    Gaussian predictor can use (predictive V-information, Xu et al. 2020). It adds up over the elements as if they were
    independent given s, so what neighbouring positions have in common is counted once for each of them; and it is
    measured on the rows that are being fitted. Where ``law`` is not ``"gaussian"``, the better fit of the tails counts
    too.

    Args:
        layers: of mu between maps.
        hidden: channels between these, as a multiple of the teacher's.
        law: of t around mu: ``"gaussian"``; ``"student-t"``, of learned degrees of freedom; ``"mixture"`` of Gaussians
            with ``components`` means.
        bias: whether the last layer of mu has one.
        initial_variance: of each channel, at the start.
        minimum_variance: lower limit of each channel's variance; in the feature's units squared.
        components: of the mixture.
        initial_degrees: of freedom, at the start.
        normalize: divide the sum by N.
        positions: in training, use at most about this number of positions of each map, on a regular grid whose offset
            is drawn anew in each step. The sum over them, divided by their share, is on average the sum over all (apart
            from the statistics of batch normalisation). Neighbouring positions hardly differ, and 1x1 convolutions on
            all of a large map can cost as much as the student. ``None`` uses all positions, as evaluation always does,
            and as every map that is predicted from a vector does: its transposed convolutions yield all at once.

    Raises:
        DivergenceError: an argument is out of its range.

    Example:
        >>> from limbeck.core.delta import Delta
        >>> teacher, student = Delta(torch.randn(4, 8, 6, 6)), Delta(torch.randn(4, 3, 12, 12))
        >>> vid = VID().fitted(teacher, student)
        >>> vid(teacher, student).shape, vid.variances.shape, vid.log_likelihood(teacher, student).shape
        (torch.Size([4]), torch.Size([8]), torch.Size([4, 6, 6]))

    References:
        Ahn et al., Variational Information Distillation for Knowledge Transfer, CVPR 2019.
        Xu et al., A Theory of Usable Information under Computational Constraints, ICLR 2020.
    """

    network: MeanNetwork
    observation: Observation
    moments: Moments

    def __init__(
        self,
        layers: int = 3,
        hidden: float = 2.0,
        law: ObservationLaw = "gaussian",
        bias: bool = True,
        initial_variance: float = 5.0,
        minimum_variance: float = 1e-5,
        components: int = 3,
        initial_degrees: float = 10.0,
        normalize: bool = True,
        positions: int | None = 12,
    ) -> None:
        super().__init__()
        check_choice(DivergenceError, "VID: law", law, ObservationLaw)
        if layers < 1 or components < 1 or not hidden > 0.0 or (positions is not None and positions < 1):
            raise DivergenceError(
                f"VID: layers, components, hidden and positions must be positive, not {layers}, {components}, {hidden} "
                f"and {positions}"
            )
        if not initial_variance > minimum_variance > 0.0:
            raise DivergenceError(
                f"VID: the initial variance ({initial_variance}) must be above the minimum ({minimum_variance}), and "
                "that above 0"
            )
        if not initial_degrees > 2.0 + minimum_variance:
            raise DivergenceError(f"VID: a Student-t of finite variance needs degrees above 2, not {initial_degrees}")
        self.layers, self.hidden, self.law, self.bias = layers, hidden, law, bias
        self.initial_variance, self.minimum_variance = initial_variance, minimum_variance
        self.components, self.initial_degrees = components, initial_degrees
        self.normalize, self.positions = normalize, positions

    @override
    def extra_repr(self) -> str:
        """All settings."""
        names = ("layers", "hidden", "law", "bias", "initial_variance", "minimum_variance", "components",
                 "initial_degrees", "normalize", "positions")  # fmt: skip
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

    @override
    def size(self, p: D.Distribution, q: D.Distribution) -> None:
        """See the base class."""
        theirs, own = feature_values("VID", p, q)
        channels = theirs.shape[1]
        self.observation = observation(
            self.law, channels, self.initial_variance, self.minimum_variance, self.components, self.initial_degrees
        )
        outputs = self.observation.outputs
        self.network = MeanNetwork(own.shape[1:], theirs.shape[1:], outputs, self.layers, self.hidden, self.bias)
        self.moments = Moments(channels, self.minimum_variance)
        self.to(own.device, own.dtype)

    @override
    def undecayed(self) -> Iterable[nn.Parameter]:
        """The parameters of the observation model: variances, degrees of freedom, weights of a mixture."""
        return self.observation.parameters() if self.sized else ()

    @property
    @override
    def variances(self) -> Tensor:
        """The learned variance of each channel of the teacher's feature ([V] Fig. 3), shape (channels,)."""
        self.check_sized()
        return self.observation.variances.detach()

    @override
    def forward(self, p: D.Distribution, q: D.Distribution) -> Tensor:
        """The negative log-likelihood of each row.

        Args:
            p: the teacher's ``Delta``, value of shape (batch, channels, ...).
            q: the student's.

        Returns:
            Shape (batch,); in nats, or with ``normalize`` in nats per element.

        Raises:
            DivergenceError: the sites are not those that it was sized for.
        """
        self.check_sized()
        theirs, own = feature_values("VID", p, q)
        positions = self.positions if self.training and self.network.positionwise else None
        grid = Grid.drawn(theirs.shape[2:], positions)
        target = precise(grid.of(theirs))
        losses = self.observation.negative_log_density(target, self.network(own, grid).to(target.dtype))
        rows = losses.sum(1) * grid.share
        elements = theirs[0].numel()
        unexplained = self.moments(target) * (elements / theirs.shape[1])
        self.observed["information"] = unexplained - rows.detach().mean()
        return rows / elements if self.normalize else rows

    @torch.no_grad()
    @override
    def log_likelihood(self, p: D.Distribution, q: D.Distribution) -> Tensor:
        """Where in the image the student can predict the teacher's feature ([V] Fig. 2, 4): log q(t_hw | s).

        Args:
            p: the teacher's ``Delta``, value of shape (batch, channels, ...).
            q: the student's.

        Returns:
            Summed over channels, in nats, shape (batch, ...): (batch, height, width) for maps, (batch,) for vectors.
            Nothing is updated, and batch normalisation uses its running statistics.
        """
        self.check_sized()
        theirs, own = feature_values("VID", p, q)
        training = self.network.training
        target = precise(Grid().of(theirs))
        try:
            predicted = self.network.eval()(own).to(target.dtype)
        finally:
            self.network.train(training)
        return -self.observation.negative_log_density(target, predicted).reshape(len(theirs), *theirs.shape[2:])
