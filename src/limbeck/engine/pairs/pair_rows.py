"""Which recorded rows a run replays: whole pages, the last of which may have more rows than are needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

__all__ = ["PairRows"]


@dataclass(frozen=True)
class PairRows:
    """Rows of a recording.

    Attributes:
        pages: numbers of the pages that hold them; a page may come more than once.
        places: where they are among the rows of these pages, shape (count,); ``None`` for all.
        count: number of rows.
    """

    pages: list[int]
    places: Tensor | None
    count: int

    @classmethod
    def random(cls, first: int, pages: int, size: int, count: int, generator: torch.Generator | None) -> Self:
        """Random pages, with replacement; if the last one has more rows than are needed, random rows of it.

        Args:
            first: number of the first page of the range.
            pages: number of pages in the range.
            size: rows of a page.
            count: number of rows.
            generator: source of the choice; by default torch's global one.
        """
        number = -(-count // size)
        device = "cpu" if generator is None else generator.device
        drawn = torch.randint(pages, (number,), generator=generator, device=device).add(first).tolist()
        if count % size == 0:
            return cls(drawn, None, count)
        whole = (number - 1) * size
        last = torch.randperm(size, generator=generator, device=device)[: count - whole].cpu()
        return cls(drawn, torch.cat([torch.arange(whole), last + whole]), count)

    @classmethod
    def span(cls, first: int, size: int, start: int, stop: int) -> Self:
        """The rows from ``start`` up to ``stop``, counted from page ``first`` on.

        Args:
            first: number of a page.
            size: rows of a page.
            start: number of a row.
            stop: one beyond the last.

        Example:
            >>> PairRows.span(10, 4, 6, 9)
            PairRows(pages=[11, 12], places=tensor([2, 3, 4]), count=3)
        """
        page = start // size
        pages = [first + number for number in range(page, -(-stop // size))]
        return cls(pages, torch.arange(start - page * size, stop - page * size), stop - start)

    def of(self, read: Tensor) -> Tensor:
        """Select these rows, shape (count, ...), from all rows of the pages, shape (len(pages) * size, ...)."""
        return read if self.places is None else read[self.places]
