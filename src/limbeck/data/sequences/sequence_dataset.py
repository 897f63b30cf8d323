"""Sequences of tokens, each with an input, in three splits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.data.dataset import Dataset, Split
from limbeck.errors import DataError

__all__ = ["SequenceDataset", "SequenceSplit"]


@dataclass(frozen=True, eq=False)
class SequenceSplit(Split):
    """The rows of one split of a set of sequences.

    Attributes:
        inputs: the input of each sequence, float32, shape (rows, ...). Several rows may have one input: then it has
            several right answers.
        tokens: int64 symbol indices, shape (rows, length); shorter sequences end with padding, symbol 0.
    """

    inputs: Tensor
    tokens: Tensor


@dataclass(frozen=True, eq=False)
class SequenceDataset(Dataset):
    """Sequences of symbols.

    Attributes:
        symbols: text of each token; token ``i`` means ``symbols[i]``. The first is the padding, the empty text.

    >>> part = SequenceSplit(torch.zeros(2, 3), torch.tensor([[1, 2, 0], [2, 2, 1]]))
    >>> SequenceDataset("words", part, part, part, symbols=("", "a", "b")).text(part.tokens)
    ['ab', 'bba']
    """

    train: SequenceSplit
    validation: SequenceSplit
    test: SequenceSplit
    symbols: tuple[str, ...]

    def text(self, tokens: Tensor) -> list[str]:
        """Tokens, int64 of shape (rows, length), as one text per row."""
        return ["".join(self.symbols[index] for index in row) for row in tokens.tolist()]

    @override
    def check(self, split: Split, where: str) -> None:
        """See :class:`Dataset`: shapes, dtypes, non-finite inputs, tokens that are no symbol."""
        assert isinstance(split, SequenceSplit)
        inputs, tokens = split.inputs, split.tokens
        if tokens.ndim != 2 or tokens.dtype != torch.int64 or inputs.dtype != torch.float32:
            raise DataError(
                f"{where}: tokens are {tokens.dtype} of shape {tuple(tokens.shape)} and inputs {inputs.dtype}; "
                "expected int64 tokens of shape (rows, length) and float32 inputs."
            )
        if len(inputs) != len(tokens) or not tokens.numel():
            raise DataError(f"{where}: {len(inputs)} inputs for {len(tokens)} sequences; give one each, at least one.")
        if tokens.shape[1] != self.train.tokens.shape[1] or inputs.shape[1:] != self.train.inputs.shape[1:]:
            raise DataError(f"{where}: its rows have other shapes than those of train.")
        bad = int((~inputs.isfinite()).flatten(1).any(1).sum())
        if bad:
            raise DataError(f"{where}: {bad} of {len(inputs)} inputs have values that are NaN or infinite; drop them.")
        wrong = int(((tokens < 0) | (tokens >= len(self.symbols))).sum())
        if wrong:
            raise DataError(
                f"{where}: {wrong} of {tokens.numel()} tokens lie outside 0 to {len(self.symbols) - 1} "
                f"(there are {len(self.symbols)} symbols)."
            )
