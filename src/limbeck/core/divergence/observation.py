"""Laws of a teacher's feature given a prediction of it: the observation models of [V] Sec. 2.1."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from limbeck.core.precision import precise
from limbeck.errors import DivergenceError

__all__ = [
    "GaussianObservation",
    "MixtureObservation",
    "Observation",
    "ObservationLaw",
    "StudentTObservation",
    "observation",
]

ObservationLaw = Literal["gaussian", "student-t", "mixture"]
"""Families of the law of a teacher's feature around its prediction."""


class Observation(nn.Module, ABC):
    r"""A density of each element around its prediction, with one variance per channel.

    .. math:: \sigma_c^2 = \log(1 + e^{\alpha_c}) + \epsilon

    ([V] below Eq. 5), so that the variance, not its root, starts from ``initial_variance``.

    Args:
        channels: of the teacher's feature.
        components: number of variances per channel.
        initial_variance: sigma squared at the start, 5.0 in [V] App. A.3.
        minimum_variance: epsilon, in the feature's own units squared.
    """

    outputs = 1
    """Predictions for each element."""

    def __init__(self, channels: int, components: int, initial_variance: float, minimum_variance: float) -> None:
        super().__init__()
        self.channels = channels
        self.minimum_variance = minimum_variance
        start = inverse_softplus(initial_variance - minimum_variance)
        self.alpha = nn.Parameter(torch.full((components, channels), start))

    @property
    def component_variances(self) -> Tensor:
        """Shape (components, channels)."""
        return F.softplus(precise(self.alpha)) + self.minimum_variance

    @property
    def variances(self) -> Tensor:
        """The variance of each channel around its prediction, shape (channels,)."""
        return self.component_variances[0]

    @abstractmethod
    def negative_log_density(self, target: Tensor, predicted: Tensor) -> Tensor:
        """In nats, summed over channels.

        Args:
            target: the teacher's feature, shape (batch, positions, channels).
            predicted: shape (batch, positions, channels x outputs).

        Returns:
            Shape (batch, positions).
        """


class GaussianObservation(Observation):
    r"""Normal: :math:`-\log q(t_c) = \frac12 \log 2\pi\sigma_c^2 + (t_c - \mu_c)^2 / 2\sigma_c^2` ([V] Eq. 5)."""

    def __init__(self, channels: int, initial_variance: float = 5.0, minimum_variance: float = 1e-5) -> None:
        super().__init__(channels, 1, initial_variance, minimum_variance)

    @override
    def negative_log_density(self, target: Tensor, predicted: Tensor) -> Tensor:
        """See the base class."""
        variances = self.variances
        constant = 0.5 * (2.0 * math.pi * variances).log().sum()
        return ((target - predicted).square() * (0.5 / variances)).sum(-1) + constant


class StudentTObservation(Observation):
    r"""Student's t, whose heavy tails tolerate single features that the student cannot predict.

    .. math:: q(t_c) = \frac{\Gamma(\frac{\nu_c + 1}{2})}{\Gamma(\frac{\nu_c}{2}) \sqrt{\pi (\nu_c - 2) \sigma_c^2}}
              \left(1 + \frac{(t_c - \mu_c)^2}{(\nu_c - 2) \sigma_c^2}\right)^{-\frac{\nu_c + 1}{2}}

    written in its variance sigma squared, which needs degrees of freedom nu above 2; these are learned per channel.
    """

    def __init__(
        self,
        channels: int,
        initial_variance: float = 5.0,
        minimum_variance: float = 1e-5,
        initial_degrees: float = 10.0,
    ) -> None:
        super().__init__(channels, 1, initial_variance, minimum_variance)
        self.beta = nn.Parameter(torch.full((channels,), inverse_softplus(initial_degrees - 2.0 - minimum_variance)))

    @property
    def degrees(self) -> Tensor:
        """Degrees of freedom, shape (channels,)."""
        return 2.0 + self._beyond

    @property
    def _beyond(self) -> Tensor:
        return F.softplus(precise(self.beta)) + self.minimum_variance

    @override
    def negative_log_density(self, target: Tensor, predicted: Tensor) -> Tensor:
        """See the base class."""
        degrees, width = self.degrees, self._beyond * self.variances
        half = 0.5 * (degrees + 1.0)
        constant = (torch.lgamma(0.5 * degrees) - torch.lgamma(half) + 0.5 * (math.pi * width).log()).sum()
        return (((target - predicted).square() / width).log1p() * half).sum(-1) + constant


class MixtureObservation(Observation):
    r"""A mixture of Gaussians per element: :math:`q(t_c) = \sum_k \pi_{ck} N(t_c; \mu_{ck}(s), \sigma_{ck}^2)`.

    A mixture density network (Bishop, 1994) whose means come from the network; weights and variances are per channel.
    """

    def __init__(
        self, channels: int, initial_variance: float = 5.0, minimum_variance: float = 1e-5, components: int = 3
    ) -> None:
        super().__init__(channels, components, initial_variance, minimum_variance)
        self.outputs = components
        self.weights = nn.Parameter(torch.zeros(components, channels))

    @property
    @override
    def variances(self) -> Tensor:
        """The mean variance within the components, shape (channels,); the variance between their means depends on s."""
        return (precise(self.weights).softmax(0) * self.component_variances).sum(0)

    @override
    def negative_log_density(self, target: Tensor, predicted: Tensor) -> Tensor:
        """See the base class."""
        means = predicted.reshape(*predicted.shape[:-1], self.outputs, self.channels)
        variances = self.component_variances
        constant = precise(self.weights).log_softmax(0) - 0.5 * (2.0 * math.pi * variances).log()
        terms = constant - (target.unsqueeze(-2) - means).square() * (0.5 / variances)
        total: Tensor = terms.logsumexp(-2).sum(-1)
        return -total


def observation(
    law: ObservationLaw,
    channels: int,
    initial_variance: float,
    minimum_variance: float,
    components: int,
    initial_degrees: float,
) -> Observation:
    """The observation model of a family, with the settings that apply to it."""
    if law == "gaussian":
        return GaussianObservation(channels, initial_variance, minimum_variance)
    if law == "student-t":
        return StudentTObservation(channels, initial_variance, minimum_variance, initial_degrees)
    return MixtureObservation(channels, initial_variance, minimum_variance, components)


def inverse_softplus(value: float) -> float:
    """The number whose softplus is the given one.

    Raises:
        DivergenceError: the value is not positive.
    """
    if not value > 0.0:
        raise DivergenceError(f"no softplus is {value}: an initial value must be above the minimum")
    return value + math.log(-math.expm1(-value))
