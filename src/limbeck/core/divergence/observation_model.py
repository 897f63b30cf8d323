"""The base class of divergences that learn a law of the teacher's feature given the student's."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor
from torch.distributions import Distribution

from limbeck.core.divergence.learned import Learned

__all__ = ["ObservationModel"]


class ObservationModel(Learned):
    """A learned law q(t | s) that can be inspected: how well each channel and each position of t is predicted.

    Reports show both for every divergence of this class ([V] Fig. 2 to 4).
    """

    @property
    @abstractmethod
    def variances(self) -> Tensor:
        """The learned variance of each channel of the teacher's feature ([V] Fig. 3), shape (channels,), detached.

        Raises:
            DivergenceError: this is a template, which has not learned any.
        """

    @abstractmethod
    def log_likelihood(self, p: Distribution, q: Distribution) -> Tensor:
        """Where in the image the student can predict the teacher's feature ([V] Fig. 2, 4): log q(t_hw | s).

        Nothing is updated.

        Args:
            p: the teacher's law of a feature, value of shape (batch, channels, ...).
            q: the student's.

        Returns:
            Summed over channels, in nats, shape (batch, ...): (batch, height, width) for maps, (batch,) for vectors.

        Raises:
            DivergenceError: this is a template, or the sites are not those that it was sized for.
        """
