"""What a user sees while pairs are made: their size, the expected time, the progress."""

from __future__ import annotations

import time

from torch import Tensor

from limbeck.data.pairs.store import PairStore
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.units import amount, duration

__all__ = ["PairReport"]

_CLAMPED = 0.01  # share of numbers outside [0, 1] above which there is a message
_MARGIN = 0.5 / 255  # what rounding changes anyway
_TIMED = 2  # runs of the teacher that are timed: the first is slower than the others


class PairReport:
    """Reports size and expected time first, then each run of the teacher.

    Args:
        pairs: how many pairs, and how they are stored.
        store: where they are kept.
        missing: number of files to be made.
        progress: receives the reports.
        label: what to call this.
    """

    def __init__(self, pairs: Pairs, store: PairStore, missing: int, progress: Progress, label: str) -> None:
        self._pairs, self._progress, self._label = pairs, progress, label
        self._done = (pairs.shards - missing) * pairs.shard_batches
        self._before = self._done
        self._own = 0
        self._looked: set[str] = set()
        if missing:
            layout = store.layout
            new = missing * pairs.shard_rows * layout.row_bytes
            size = amount(pairs.shards * pairs.shard_rows * layout.row_bytes)
            progress.message(
                f"{label}: {pairs.rows:,} pairs, {size}, of which {amount(new)} are still to be made in "
                f"{store.directory}"
            )
        progress.start(label, pairs.batches, self._done)
        progress.advance(self._done)
        self._begun = time.monotonic()

    def made(self) -> None:
        """The teacher ran once."""
        self._own += 1
        self._done += 1
        self._progress.advance(self._done)
        left = self._pairs.batches - self._done
        if self._own == min(_TIMED, self._pairs.batches - self._before):
            each = (time.monotonic() - self._begun) / self._own
            rate = self._pairs.batch_pages * self._pairs.page_rows / each
            together = self._pairs.workers
            told = f" by each of {together} processes" if together > 1 else ""
            self._progress.message(
                f"{self._label}: {rate:,.0f} pairs a second{told}, about {duration(left * each / together)} to go."
            )

    def elsewhere(self) -> None:
        """Another process made a file."""
        self._done += self._pairs.shard_batches
        self._progress.advance(self._done)

    def clamped(self, name: str, values: Tensor) -> None:
        """Report, once per site, that numbers that are no images are about to be clamped to [0, 1].

        Args:
            name: of the site.
            values: of any shape.
        """
        if name in self._looked:
            return
        self._looked.add(name)
        outside = float(((values < -_MARGIN) | (values > 1 + _MARGIN)).float().mean())
        if outside > _CLAMPED:
            self._progress.message(
                f"{self._label}: {outside:.0%} of the numbers of {name!r} are outside [0, 1], and dtype uint8 clamps "
                "them to it; float16 keeps them."
            )
