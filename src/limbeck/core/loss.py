"""A loss with named terms: the total is their sum, so that the share of each can be seen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from limbeck.errors import DataError

__all__ = ["Batch", "Loss"]


@dataclass(frozen=True)
class Batch:
    """Rows of data as a model sees them.

    Attributes:
        y: what the model is for, shape (batch, ...): images for a generative model, labels for a classifier.
        x: the conditioning input, shape (batch, ...), or ``None``.

    Raises:
        DataError: ``x`` has another number of rows than ``y``.
    """

    y: Tensor
    x: Tensor | None = None

    def __post_init__(self) -> None:
        # Rows are chosen by number: the first of them would be paired all the same.
        if self.x is not None and len(self.x) != len(self.y):
            raise DataError(
                f"the data has {len(self.y)} rows of y and {len(self.x)} of x, but each x needs its y; give both from "
                "the same split, Batch(y, x)"
            )

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise and what it is made of.

    Attributes:
        total: sum of the terms, shape ().
        terms: name to weighted contribution, each of shape ().
        observed: name to a value that was measured on the way and is not minimised, each of shape (), such as an
            estimate of the information that one feature has about another.
    """

    total: Tensor
    terms: dict[str, Tensor]
    observed: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, terms: dict[str, Tensor], observed: dict[str, Tensor] | None = None) -> Loss:
        """Sum the terms.

        Example:
            >>> loss = Loss.of({"y": torch.tensor(3.0), "z1": torch.tensor(1.0)})
            >>> loss.total.item(), loss.shares()["z1"]
            (4.0, 0.25)
        """
        total = None
        for term in terms.values():
            total = term if total is None else total + term
        return cls(torch.zeros(()) if total is None else total, terms, observed or {})

    def towards(self, model: nn.Module) -> Loss:
        """The same loss with a gradient of 0, for a step in which all weights are still 0.

        Args:
            model: what is trained.
        """
        # No elements of a parameter: a sum of 0 that torch.compile can follow, whatever the parameter's numbers are.
        anchor = next((parameter for parameter in model.parameters() if parameter.requires_grad), None)
        return self if anchor is None else replace(self, total=self.total + anchor.flatten()[:0].sum())

    def shares(self) -> dict[str, float]:
        """Each term's share of the sum of absolute values: a latent term with a share of 0.02 % has no effect."""
        sizes = {name: abs(float(term.detach())) for name, term in self.terms.items()}
        whole = sum(sizes.values())
        return {name: size / whole if whole else 0.0 for name, size in sizes.items()}

    def backward(self) -> None:
        """Accumulate the gradient of :attr:`total`."""
        self.total.backward()  # type: ignore[no-untyped-call]
