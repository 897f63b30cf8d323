"""What a law of one's own may bring along, so that the library treats it as it treats those of torch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor

from limbeck.core.reparam import Rule

__all__ = ["CustomLaw"]


class CustomLaw(Protocol):
    """The names that are looked for on the class of a law; a subclass of torch's ``Distribution`` may have any of them.

    Each is optional and works without the others, except that stacking takes both ``stacking_key`` and ``stack``. A law
    without ``noise_rule`` can still be taught by :func:`limbeck.reparam.register` or be drawn by its ``icdf``; one
    without ``closed_form_kl`` has the KL that is registered with torch, if any; one without ``stack`` is compared site
    by site. ``limbeck.models.StrokeLaw`` has all of them.

    Example:
        >>> import torch
        >>> from limbeck.core.divergence import kl
        >>> from limbeck.core.reparam import Law, push
        >>> from limbeck.core.stacking import stack
        >>> from torch.distributions import Distribution
        >>> class Wide(Distribution):
        ...     arg_constraints = {}
        ...     noise_rule = Rule(Law.NORMAL, lambda law, noise: law.loc + 2 * noise)
        ...     def __init__(self, loc):
        ...         self.loc = loc
        ...         super().__init__(loc.shape, validate_args=False)
        ...     def closed_form_kl(self, other):
        ...         return (self.loc - other.loc).square() / 8
        ...     @property
        ...     def stacking_key(self):
        ...         return self.loc.shape
        ...     @classmethod
        ...     def stack(cls, laws):
        ...         return cls(torch.cat([law.loc for law in laws]))
        >>> law: CustomLaw = Wide(torch.tensor([1.0, 2.0]))
        >>> push(law, torch.tensor([0.5, 0.0]))
        tensor([2., 2.])
        >>> kl(law, Wide(torch.tensor([1.0, 4.0])))
        tensor([0.0000, 0.5000])
        >>> stack([law, law]).loc
        tensor([1., 2., 1., 2.])
    """

    noise_rule: ClassVar[Rule]
    """How a value is made of noise ([U] Sec. 3.1); see :mod:`limbeck.core.reparam.dispatch`."""

    def closed_form_kl(self, other: Any) -> Tensor:
        """The KL from this law to another one, for :func:`limbeck.divergence.kl`.

        Args:
            other: the student's law, of any class.

        Returns:
            Shape ``batch_shape`` of the law, in nats: one term for each independent part.

        Raises:
            NotImplementedError: there is no closed form for these two.
        """
        ...

    @property
    def stacking_key(self) -> Hashable:
        """Equal for two laws of the class only if :meth:`stack` accepts both; see :mod:`limbeck.core.stacking`."""
        ...

    @classmethod
    def stack(cls, laws: Sequence[Any]) -> Self:
        """One law whose rows are those of the given ones, one law after another.

        Args:
            laws: laws of the class with one :attr:`stacking_key`, batch first.
        """
        ...
