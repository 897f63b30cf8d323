"""What is said of a word that is none of those that an argument may be."""

from __future__ import annotations

from typing import Literal

import pytest

from limbeck.choices import check_choice
from limbeck.errors import MatchError


@pytest.mark.parametrize(
    ("choices", "told"),
    [(Literal["a", "b"], "^start must be a or b, not 'd'$"), (Literal["a", "b", "c"], "be one of a, b, c, not 'd'$")],
)
def test_a_word_is_one_of_them_or_refused(choices: object, told: str) -> None:
    check_choice(MatchError, "start", "a", choices)
    with pytest.raises(MatchError, match=told):
        check_choice(MatchError, "start", "d", choices)
