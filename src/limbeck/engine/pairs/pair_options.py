"""How the results of a teacher are recorded: plain typed settings, checked when they are made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal, get_args

from limbeck.data.pairs.layout import PairDtype
from limbeck.errors import RecipeError

__all__ = ["Pairs"]

_DRY_PAGE = 4


@dataclass(frozen=True)
class Pairs:
    """Pairs of noise and result that the teacher makes once and students learn from, kept on disk ([D] Sec. 3.1).

    The noise is kept as seeds, so that a pair takes only the bytes of its result.

    Attributes:
        count: pairs to train on. The paper has 1.024 million.
        held_out: further pairs that no training sees, for early stopping ([D] App. B).
        dtype: how the means of the targets are stored. ``"uint8"`` is for images in [0, 1]: clamped and rounded.
        states: names or patterns (``"x[*]"``) of deterministic sites to store as well, for methods that match them.
        state_dtype: how these are stored.
        workers: number of processes that make pairs at the same time, if that is faster than one with all threads.
        batch_size: rows that the teacher makes at once.
        page_rows: rows that share one seed and are read together.
        shard_rows: rows of one file, which is the most that a killed process loses.
    """

    count: int
    held_out: int = 0
    dtype: PairDtype = "float16"
    states: list[str] = field(default_factory=list)
    state_dtype: Literal["float16", "float32"] = "float16"
    workers: int = 1
    batch_size: int = 128
    page_rows: int = 16
    shard_rows: int = 512

    def __post_init__(self) -> None:
        for name in ("count", "workers", "batch_size", "page_rows", "shard_rows"):
            if getattr(self, name) < 1:
                raise RecipeError(f"pairs.{name} must be at least 1, not {getattr(self, name)}")
        if self.held_out < 0:
            raise RecipeError(f"pairs.held_out must not be negative, but is {self.held_out}")
        if self.dtype not in get_args(PairDtype) or self.state_dtype not in ("float16", "float32"):
            raise RecipeError(
                "pairs.dtype must be uint8, float16 or float32, and pairs.state_dtype one of the last two"
            )
        if self.shard_rows % self.page_rows:
            raise RecipeError(
                f"pairs.shard_rows must be a multiple of pairs.page_rows, but {self.shard_rows} is none of "
                f"{self.page_rows}"
            )

    @property
    def held_out_pages(self) -> int:
        """Pages that are held out: they come first, so that a store can grow."""
        return -(-self.held_out // self.page_rows)

    @property
    def training_pages(self) -> int:
        """Pages to train on: ``count`` rounded up."""
        return -(-self.count // self.page_rows)

    @property
    def training_rows(self) -> int:
        """Rows of these pages."""
        return self.training_pages * self.page_rows

    @property
    def rows(self) -> int:
        """Rows of all these pages."""
        return (self.held_out_pages + self.training_pages) * self.page_rows

    @property
    def shards(self) -> int:
        """Files that these rows take."""
        return -(-self.rows // self.shard_rows)

    @property
    def batch_pages(self) -> int:
        """Pages that the teacher makes at once: ``batch_size`` rounded down to whole pages, at least one."""
        return max(1, self.batch_size // self.page_rows)

    @property
    def shard_batches(self) -> int:
        """Runs of the teacher for one file."""
        return -(-self.shard_rows // (self.batch_pages * self.page_rows))

    @property
    def batches(self) -> int:
        """Runs of the teacher for all files."""
        return self.shards * self.shard_batches

    def shortened(self, rows: int) -> Pairs:
        """The same settings for a dry run with at most ``rows`` pairs to train on."""
        page = min(self.page_rows, _DRY_PAGE)
        return dataclasses.replace(
            self, count=min(rows, self.count), held_out=min(self.held_out, page), page_rows=page, shard_rows=page,
            workers=1,
        )  # fmt: skip

    def essential(self) -> dict[str, object]:
        """What a student that learns from these pairs depends on; not the number of processes that made them."""
        return {name: value for name, value in vars(self).items() if name != "workers"}

    def stored(self) -> dict[str, object]:
        """What the content of a file depends on; not the number of files."""
        return {name: value for name, value in self.essential().items() if name not in ("count", "held_out")}
