"""The degenerate distribution of a deterministic site: a point mass."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from typing_extensions import override

__all__ = ["Delta"]

_Size = torch.Size | list[int] | tuple[int, ...]


class Delta(Distribution):
    """A point mass at ``value``.

    A hidden feature is a random variable whose law is degenerate ([U] 3.5), so that deterministic and random
    sites can be treated alike: a feature distance is the Wasserstein distance between two of these ([U] Eq. 8).

    Shapes follow ``torch.distributions``: the last ``event_dim`` dimensions of ``value`` are the event.
    The density is taken with respect to the counting measure, so ``log_prob`` is 0 or ``-inf``.

    Args:
        value: the atom, of shape ``batch_shape + event_shape``.
        event_dim: how many trailing dimensions of ``value`` are one event.

    Example:
        >>> feature = Delta(torch.zeros(4, 3), event_dim=1)
        >>> feature.batch_shape, feature.event_shape
        (torch.Size([4]), torch.Size([3]))
        >>> feature.log_prob(torch.zeros(4, 3))
        tensor([0., 0., 0., 0.])
    """

    arg_constraints = {}  # noqa: RUF012  (the base class declares it, and not as a ClassVar)
    has_rsample = True

    def __init__(self, value: Tensor, event_dim: int = 0) -> None:
        shape = value.shape
        split = len(shape) - event_dim
        if event_dim < 0 or split < 0:
            raise ValueError(f"event_dim={event_dim} does not fit a value of shape {tuple(shape)}")
        self.value = value
        self.event_dim = event_dim
        super().__init__(shape[:split], shape[split:], validate_args=False)

    @property
    @override
    def support(self) -> constraints.Constraint:
        """The real numbers: where ``log_prob`` is defined, rather than where the mass is."""
        if not self.event_dim:
            return constraints.real
        independent: constraints.Constraint = constraints.independent(constraints.real, self.event_dim)  # type: ignore[no-untyped-call]
        return independent

    @property
    @override
    def mean(self) -> Tensor:
        """The atom."""
        return self.value

    @property
    @override
    def mode(self) -> Tensor:
        """The atom."""
        return self.value

    @property
    @override
    def variance(self) -> Tensor:
        """Zero."""
        return torch.zeros_like(self.value)

    @override
    def rsample(self, sample_shape: _Size = ()) -> Tensor:
        """Return the atom, differentiably, repeated over ``sample_shape``."""
        if not sample_shape:
            return self.value
        return self.value.expand(torch.Size(sample_shape) + self.value.shape)

    @override
    def sample(self, sample_shape: _Size = ()) -> Tensor:
        """Return the atom, detached, repeated over ``sample_shape``."""
        return self.rsample(sample_shape).detach()

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """Return 0 where every element of the event equals the atom, else ``-inf``; shape ``batch_shape``."""
        equal = value == self.value
        if self.event_dim:
            equal = equal.flatten(-self.event_dim).all(-1)
        dtype = self.value.dtype if self.value.is_floating_point() else torch.get_default_dtype()
        return torch.where(equal, 0.0, -torch.inf).to(dtype)

    @override
    def expand(self, batch_shape: _Size, _instance: object = None) -> Delta:
        """Return the same point mass with a larger batch."""
        return Delta(self.value.expand(torch.Size(batch_shape) + self.event_shape), self.event_dim)

    @override
    def __repr__(self) -> str:
        return f"Delta(value: {tuple(self.value.shape)}, event_dim={self.event_dim})"
