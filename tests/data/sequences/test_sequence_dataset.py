"""Sequences of tokens, and the digits with their names."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.data import Digits, SequenceDataset, SequenceSplit, SpelledDigits
from limbeck.errors import DataError


def split(rows: int = 4, length: int = 3) -> SequenceSplit:
    return SequenceSplit(torch.zeros(rows, 2), torch.ones(rows, length, dtype=torch.int64))


def dataset(test: SequenceSplit) -> SequenceDataset:
    return SequenceDataset("words", split(), split(), test, symbols=("", "a"))


def test_parts_and_text() -> None:
    assert set(split().parts) == {"inputs", "tokens"}
    assert dataset(split()).text(torch.tensor([[1, 1, 0], [0, 0, 0]])) == ["aa", ""]
    assert dataset(split()).test.take([0, 1]).tokens.shape == (2, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (SequenceSplit(torch.zeros(4, 2), torch.ones(4, 3)), "expected int64 tokens"),
        (SequenceSplit(torch.zeros(4, 2), torch.ones(4, dtype=torch.int64)), "expected int64 tokens"),
        (SequenceSplit(torch.zeros(4, 2).double(), torch.ones(4, 3, dtype=torch.int64)), "float32 inputs"),
        (SequenceSplit(torch.zeros(3, 2), torch.ones(4, 3, dtype=torch.int64)), "3 inputs for 4"),
        (split(rows=0), "at least one"),
        (split(length=2), "other shapes"),
        (SequenceSplit(torch.zeros(4, 5), torch.ones(4, 3, dtype=torch.int64)), "other shapes"),
        (SequenceSplit(torch.full((4, 2), math.nan), torch.ones(4, 3, dtype=torch.int64)), "4 of 4 inputs"),
        (SequenceSplit(torch.zeros(4, 2), torch.full((4, 3), 2)), "12 of 12 tokens lie outside 0 to 1"),
        (SequenceSplit(torch.zeros(4, 2), torch.full((4, 3), -1)), "outside"),
    ],
)
def test_bad_rows_are_refused(wrong: SequenceSplit, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        dataset(wrong)
    assert "'words', test split" in str(error.value)


def test_every_digit_is_spelled_in_every_language() -> None:
    found, digits = SpelledDigits().load(), Digits().load()
    assert len(found.test) == 4 * len(digits.test)
    image = digits.test.images[0]
    mine = (found.test.inputs == image).flatten(1).all(1)
    names = {
        0: {"zero", "null", "zéro"}, 1: {"one", "eins", "un", "uno"}, 2: {"two", "zwei", "deux", "due"},
        3: {"three", "drei", "trois", "tre"}, 4: {"four", "vier", "quatre", "quattro"},
        5: {"five", "fünf", "cinq", "cinque"}, 6: {"six", "sechs", "sei"}, 7: {"seven", "sieben", "sept", "sette"},
        8: {"eight", "acht", "huit", "otto"}, 9: {"nine", "neun", "neuf", "nove"},
    }  # fmt: skip
    assert set(found.text(found.test.tokens[mine])) == names[int(digits.test.labels[0])]
    assert set(found.text(found.train.tokens)) == set.union(*names.values())
    assert found.symbols[0] == ""
    assert len(set(found.symbols)) == len(found.symbols)


def test_no_image_is_in_two_splits() -> None:
    found = SpelledDigits(["english"]).load()
    sets = [{row.numpy().tobytes() for row in part.inputs} for part in (found.train, found.validation, found.test)]
    assert not sets[0] & sets[2]
    assert not sets[0] & sets[1]


def test_one_seed_gives_one_set() -> None:
    assert SpelledDigits().load().fingerprint == SpelledDigits().load().fingerprint
    assert SpelledDigits(seed=1).load().fingerprint != SpelledDigits().load().fingerprint
    assert SpelledDigits(["german"]).load().fingerprint != SpelledDigits(["english"]).load().fingerprint


@pytest.mark.parametrize("languages", [[], ["klingon"], ["english", "english"]])
def test_unknown_languages(languages: list[str]) -> None:
    with pytest.raises(DataError, match=r"different ones out of english, german"):
        SpelledDigits(languages).load()
