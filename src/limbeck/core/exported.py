"""What an exported program asks for and gives: the text that its file holds beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DESCRIPTION", "Exported", "Input", "Output"]

Output = Literal["mean", "sample", "log_prob"]

DESCRIPTION = "limbeck.json"
"""Name, inside of an exported file, of the text that tells its inputs and outputs."""


@dataclass(frozen=True)
class Input:
    """One input of an exported program.

    Attributes:
        shape: of a row, without the batch.
        dtype: such as ``float32``.
        law: of noise: ``normal``, ``uniform`` (strictly inside (0, 1)) or ``gumbel``; ``None`` for ``x`` and ``y``.
    """

    shape: tuple[int, ...]
    dtype: str
    law: str | None = None


@dataclass(frozen=True)
class Exported:
    """What a file that :func:`export` wrote asks for and gives.

    Attributes:
        model: name of the model's class.
        output: what it computes.
        noise: site name to the noise that it wants; empty for ``log_prob``.
        x: the conditioning input, if there is one.
        y: the rows whose density it computes, for ``log_prob``.
        outputs: name to shape of a row.
        max_rows: how many rows it takes at most; ``None`` without a limit.
    """

    model: str
    output: Output
    noise: dict[str, Input]
    x: Input | None
    y: Input | None
    outputs: dict[str, tuple[int, ...]]
    max_rows: int | None
