"""Telling rows apart by their content: two hashes of 64 bits per row, of any tensor on any device."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["RowKeys"]

_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int32}


class RowKeys:
    r"""Hashes rows by their bits, all at once.

    The bits of a row are read as integers :math:`w_i` of at most 32 bits, and
    :math:`h = \sum_i a_i w_i + b \bmod 2^{64}` with fixed random odd :math:`a_i`: multilinear hashing (D. Lemire,
    O. Kaser, "Strongly universal string hashing is fast", 2014). Over the choice of the :math:`a_i`, two rows that
    differ anywhere agree in the upper halves of both hashes with a probability of about 2 to the power of -64, whatever
    the rows are; that any two of a million rows do has a probability below 1e-7.

    Example:
        >>> keys = RowKeys()
        >>> first, second = keys(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]))
        >>> bool(first[0] == first[2]), bool(first[0] == first[1])
        (True, False)
    """

    def __init__(self) -> None:
        self._factors: dict[tuple[int, torch.device], Tensor] = {}

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Hash every row.

        Args:
            rows: shape (rows, ...), any type with a fixed width.

        Returns:
            Two hashes of each row, int64, shape (rows,) each, where the rows are. They depend on the type and shape of
            a row as well as on its numbers.
        """
        shape = tuple(rows.shape[1:])
        words = rows.detach().contiguous().reshape(len(rows), math.prod(shape))
        words = words.view(_WORDS[words.element_size()]).long()
        factors = self._factors_for(words.shape[1], rows.device)
        start = _number(f"{shape} {rows.dtype}")
        first, second = ((words * factor).sum(1) + start for factor in factors)
        return first, second

    def _factors_for(self, count: int, device: torch.device) -> Tensor:
        found = self._factors.get((count, device))
        if found is None:
            raw = hashlib.shake_256(b"limbeck rows").digest(2 * 8 * count)
            numbers = np.frombuffer(raw, "<i8").reshape(2, count) | 1
            found = self._factors[count, device] = torch.from_numpy(numbers).to(device)
        return found


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
