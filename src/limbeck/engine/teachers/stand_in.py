"""What takes a teacher's place and knows its answers: all that it does not answer itself is the teacher's to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites

__all__ = ["StandIn"]


class StandIn(DGM):
    """A model that passes everything on to another.

    Args:
        source: the other.
    """

    def __init__(self, source: DGM) -> None:
        super().__init__()
        self.source = source

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """See :class:`limbeck.DGM`."""
        self.source.generate(sites, x)

    def infer(self, sites: Sites, y: Tensor, x: Tensor | None = None) -> None:
        """See :class:`limbeck.DGM`."""
        self.source.infer(sites, y, x)

    def join_targets(self, targets: Mapping[str, Tensor]) -> Tensor:
        """See :class:`limbeck.DGM`."""
        return self.source.join_targets(targets)

    def split_targets(self, y: Tensor, x: Tensor | None = None) -> dict[str, Tensor]:
        """See :class:`limbeck.DGM`."""
        return self.source.split_targets(y, x)

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        """See :class:`limbeck.DGM`."""
        return self.source.loss(batch, progress=progress)

    def observed(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See :class:`limbeck.DGM`."""
        return self.source.observed(y, generator)

    def inference_parameters(self) -> Iterable[nn.Parameter]:
        """See :class:`limbeck.DGM`."""
        return self.source.inference_parameters()
