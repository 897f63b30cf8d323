"""Which rows belong to which step: a pure function of (seed, step), so that resuming needs no random state."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from limbeck.core.loss import Batch
from limbeck.engine.seeding import derive_seed
from limbeck.errors import DataError

__all__ = ["Batches", "chunks"]


class Batches:
    """Rows of a data set in random order, epoch after epoch, addressed by step.

    Args:
        rows: the whole data set as one batch; ``uint8`` tensors are images and become floats in [0, 1].
        batch_size: rows a step; the last batch of an epoch is filled from the next.
        seed: fixes the order.

    Raises:
        DataError: there are no rows.
    """

    def __init__(self, rows: Batch, batch_size: int, seed: int) -> None:
        if len(rows) == 0:
            raise DataError("the training data is empty; check data.limit, data.classes and the path")
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)

    def __call__(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """The rows of one step; of several ranks each gets an equal, disjoint part.

        Args:
            step: number of the optimiser step, from 0.
            rank: number of this process.
            world_size: number of processes.

        Returns:
            A batch of ``batch_size / world_size`` rows.
        """
        share = self.batch_size // world_size
        start = step * self.batch_size + rank * share
        parts: list[Tensor] = []
        while share > 0:
            epoch, offset = divmod(start, len(self.rows))
            part = self._shuffled(epoch)[offset : offset + share]
            parts.append(part)
            start += len(part)
            share -= len(part)
        indices = torch.cat(parts)
        x = self.rows.x
        return Batch(_gather(self.rows.y, indices), None if x is None else _gather(x, indices))

    def _shuffled(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
            self._order = torch.randperm(len(self.rows), generator=generator)
            self._epoch = epoch
        return self._order


def chunks(rows: Batch, size: int) -> Iterator[Batch]:
    """All rows in their order, ``size`` at a time, ``uint8`` tensors as floats in [0, 1]."""
    for start in range(0, len(rows), size):
        indices = torch.arange(start, min(start + size, len(rows)))
        yield Batch(_gather(rows.y, indices), None if rows.x is None else _gather(rows.x, indices))


def _gather(tensor: Tensor, indices: Tensor) -> Tensor:
    rows = tensor[indices]
    return rows.float().div_(255.0) if rows.dtype == torch.uint8 else rows
