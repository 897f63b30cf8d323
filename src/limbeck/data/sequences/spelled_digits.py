"""Images of digits and their names, letter by letter, in several languages: an embedded task with several answers."""

from __future__ import annotations

import torch
from typing_extensions import override

from limbeck.data.dataset import DataSource
from limbeck.data.images.digits import Digits
from limbeck.data.sequences.sequence_dataset import SequenceDataset, SequenceSplit
from limbeck.errors import DataError

__all__ = ["SpelledDigits"]

_NAMES = {
    "english": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "german": ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
    "french": ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"),
    "italian": ("zero", "uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove"),
}


class SpelledDigits(DataSource):
    """Scikit-learn's 8x8 digits (see :class:`Digits`) with the digit's name in each language as a sequence of letters.

    Every image has one row per language, and nothing in the image says which. So p(name | image) has several modes of
    equal weight: what a model of whole sequences has to learn, and what its single best answer leaves out.

    Args:
        languages: some of english, german, french, italian.
        seed: fixes the splits and the order of the rows.

    >>> dataset = SpelledDigits(["english"]).load()
    >>> len(dataset.train), dataset.train.tokens.shape[1]
    (1213, 5)
    """

    def __init__(self, languages: list[str] | None = None, seed: int = 0) -> None:
        self.languages = list(_NAMES) if languages is None else languages
        self.seed = seed

    @override
    def load(self) -> SequenceDataset:
        """Spell every digit.

        Raises:
            DataError: a language is not known, is given twice, or none is given.
        """
        chosen = self.languages
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(_NAMES):
            raise DataError(f"SpelledDigits: languages {chosen} must be different ones out of {', '.join(_NAMES)}.")
        words = [_NAMES[language] for language in chosen]
        symbols = ("", *sorted({letter for names in words for name in names for letter in name}))
        length = max(len(name) for names in words for name in names)
        index = {symbol: number for number, symbol in enumerate(symbols)}
        table = torch.tensor(
            [[[index[letter] for letter in name] + [0] * (length - len(name)) for name in names] for names in words]
        )
        digits = Digits(seed=self.seed).load()
        generator = torch.Generator().manual_seed(self.seed)
        parts = []
        for split in (digits.train, digits.validation, digits.test):
            inputs = split.images.repeat(len(chosen), 1, 1, 1)
            tokens = table[:, split.labels].flatten(0, 1)
            order = torch.randperm(len(tokens), generator=generator)
            parts.append(SequenceSplit(inputs[order], tokens[order]))
        return SequenceDataset("spelled-digits", parts[0], parts[1], parts[2], symbols=symbols)
