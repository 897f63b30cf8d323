"""Models that take the place of another model, and the way back to that model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites

__all__ = ["StandIn", "real_model"]


class StandIn(DGM):
    """A model that takes the place of another one and answers as that one would.

    It forwards what couplings, objectives and trainings call on either model: the programs :meth:`generate` and
    :meth:`infer`, :meth:`loss`, :meth:`observed`, :meth:`inference_parameters`, and how targets form one ``y``
    (:meth:`join_targets`, :meth:`split_targets`). A subclass overrides what it answers by itself. Nothing else is
    forwarded: neither :meth:`adapt`, :meth:`start_from`, :attr:`taps`, ``config`` and ``save_pretrained``, nor what
    only the class of the other model has. For those, take the other model itself, by :func:`real_model`.

    Args:
        source: the other model.
    """

    chooses_inputs: bool = False
    """Whether its runs need the conditioning inputs that :meth:`choose` returns, rather than the caller's."""

    def __init__(self, source: DGM) -> None:
        super().__init__()
        self.source = source

    def choose(self, batch_size: int, generator: torch.Generator | None = None) -> Tensor | None:
        """Choose the conditioning inputs of the next runs, if this model decides on them; by default it does not.

        Args:
            batch_size: number of rows.
            generator: source of the choice; by default torch's global one.

        Returns:
            Shape (batch_size, ...), to be passed to the runs; ``None`` if nothing was chosen.
        """
        return None

    @property
    def held_out_rows(self) -> int | None:
        """How many of its runs are kept back for validation; ``None`` if its runs are not limited in number."""
        return None

    def key_parts(self) -> dict[str, object]:
        """Plain values, for fingerprints, of all that changes its answers beside the real model; by default nothing."""
        return {}

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        self.source.generate(sites, x)

    @override
    def infer(self, sites: Sites, y: Tensor, x: Tensor | None = None) -> None:
        self.source.infer(sites, y, x)

    @override
    def join_targets(self, targets: Mapping[str, Tensor]) -> Tensor:
        return self.source.join_targets(targets)

    @override
    def split_targets(self, y: Tensor, x: Tensor | None = None) -> dict[str, Tensor]:
        return self.source.split_targets(y, x)

    @override
    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        return self.source.loss(batch, progress=progress)

    @override
    def observed(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.source.observed(y, generator)

    @override
    def inference_parameters(self) -> Iterable[nn.Parameter]:
        return self.source.inference_parameters()


def real_model(model: DGM) -> DGM:
    """The model behind a stand-in; any other model itself.

    Args:
        model: a teacher or a student, or a stand-in for one.
    """
    while isinstance(model, StandIn):
        model = model.source
    return model
