"""Which rows belong to which step: a pure function of (seed, step), so that resuming needs no random state."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from limbeck.core.loss import Batch
from limbeck.data.images.augmentation import Augmentation
from limbeck.engine.stages.seeding import derive_seed
from limbeck.errors import DataError
from limbeck.pixels import bytes_to_floats

__all__ = ["Batches", "chunks"]

_IMAGES = 4  # dimensions: rows, channels, height, width
_ANY_SEED = 0  # a fixed number of views is a matter of the data: the same for every method and seed


class Batches:
    """Rows of a data set in random order, epoch after epoch, addressed by step.

    Args:
        rows: the whole data set as one batch; ``uint8`` tensors are images and become floats in [0, 1].
        batch_size: rows a step; the last batch of an epoch is filled from the next.
        seed: fixes the order, and how each row is augmented in each epoch.
        augmentation: applied to ``x`` if these are images, else to ``y``; see :class:`limbeck.data.Augmentation`.

    Raises:
        DataError: there are no rows, or no images to augment.
    """

    def __init__(self, rows: Batch, batch_size: int, seed: int, augmentation: Augmentation | None = None) -> None:
        if len(rows) == 0:
            raise DataError("the training data is empty; check data.limit, data.classes and the path")
        self._of_x = rows.x is not None and rows.x.ndim == _IMAGES
        if augmentation is not None and not self._of_x and rows.y.ndim != _IMAGES:
            shapes = ", ".join(str(tuple(part.shape[1:])) for part in (rows.x, rows.y) if part is not None)
            raise DataError(
                f"augmentation is for images, but the rows have shape {shapes}; leave training.augmentation out"
            )
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)
        self._view = -1
        self._draws = torch.empty(0, 3, dtype=torch.long)

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
        views: list[Tensor] = []
        while share > 0:
            epoch, offset = divmod(start, len(self.rows))
            part = self._shuffled(epoch)[offset : offset + share]
            parts.append(part)
            if self.augmentation is not None:
                views.append(self._drawn(epoch, self.augmentation)[part])
            start += len(part)
            share -= len(part)
        indices, x = torch.cat(parts), self.rows.x
        view = torch.cat(views) if views else None
        y = self._gather(self.rows.y, indices, None if self._of_x else view)
        return Batch(y, None if x is None else self._gather(x, indices, view if self._of_x else None))

    @property
    def copies(self) -> int | None:
        """In how many ways a row is seen; ``None`` if in another each time."""
        return 1 if self.augmentation is None else self.augmentation.views

    @property
    def total(self) -> int:
        """How many batches :meth:`everything` has; 0 where it is not finite."""
        return (self.copies or 0) * -(-len(self.rows) // self.batch_size)

    def everything(self) -> Iterator[Batch]:
        """All that is ever seen, where that is finite: the rows in their order, once in each of their views.

        Yields:
            Batches of ``batch_size`` rows, the last of a view smaller.
        """
        views = self.copies
        assert views is not None
        x = self.rows.x
        for number in range(views):
            drawn = None if self.augmentation is None else self._drawn(number, self.augmentation)
            for indices in torch.split(torch.arange(len(self.rows)), self.batch_size):
                view = None if drawn is None else drawn[indices]
                y = self._gather(self.rows.y, indices, None if self._of_x else view)
                yield Batch(y, None if x is None else self._gather(x, indices, view if self._of_x else None))

    def _shuffled(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
            self._order = torch.randperm(len(self.rows), generator=generator)
            self._epoch = epoch
        return self._order

    def _drawn(self, epoch: int, augmentation: Augmentation) -> Tensor:
        """How every row is augmented in an epoch, shape (rows, 3); drawn for all at once, so that ranks agree."""
        views = augmentation.views
        seed, view = (self.seed, epoch) if views is None else (_ANY_SEED, epoch % views)
        if view != self._view:
            generator = torch.Generator().manual_seed(derive_seed(seed, "augment", view))
            self._draws = augmentation.draw(len(self.rows), generator)
            self._view = view
        return self._draws

    def _gather(self, tensor: Tensor, indices: Tensor, view: Tensor | None) -> Tensor:
        rows = tensor[indices]
        if view is not None and self.augmentation is not None:
            rows = self.augmentation(rows, view)  # while a pixel still is a byte
        return bytes_to_floats(rows)


def chunks(rows: Batch, size: int) -> Iterator[Batch]:
    """All rows in their order, ``size`` at a time, ``uint8`` tensors as floats in [0, 1]."""
    for start in range(0, len(rows), size):
        indices = torch.arange(start, min(start + size, len(rows)))
        yield Batch(bytes_to_floats(rows.y[indices]), None if rows.x is None else bytes_to_floats(rows.x[indices]))
