"""How terms are made of divergences: weights, rows, and infinities."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Uniform

from limbeck.core.divergence import kl, wasserstein2
from limbeck.core.objective import Match, Objective
from limbeck.core.objective.comparison import Pair, compare
from limbeck.errors import DivergenceError
from tests.core.objective.gaussian_sites import shifted


def test_weights_multiply_terms() -> None:
    teacher, student = shifted(0.0, z="latent", y="target"), shifted(2.0, z="latent", y="target")

    def loss(weight, progress: float = 1.0, whole: float = 1.0) -> dict[str, float]:
        matches = [Match("y"), Match("z", weight=weight)]
        terms = Objective(matches, weight=whole)(teacher, student, batch_size=3, progress=progress).terms
        return {name: term.item() for name, term in terms.items()}

    assert loss(1.0) == pytest.approx({"z": 4.0, "y": 4.0})
    assert loss(0.25) == pytest.approx({"z": 1.0, "y": 4.0})
    assert loss(lambda progress: progress / 2, 0.5) == pytest.approx({"z": 1.0, "y": 4.0})
    assert loss(lambda progress: progress / 2, 0.0) == pytest.approx({"z": 0.0, "y": 4.0})
    assert loss(0.25, whole=3.0) == pytest.approx({"z": 3.0, "y": 12.0})


@pytest.mark.parametrize("names", [["w"], ["w[0]", "w[1]"]])
def test_an_infinite_divergence_without_weight_counts_for_nothing(names: list[str]) -> None:
    wide, narrow = Uniform(torch.zeros(3, 2), 2.0), Uniform(torch.zeros(3, 2), 1.0)
    pairs = [Pair(name, kl, weight, wide, narrow) for name in names for weight in (1.0, 0.0)]
    assert all(term == math.inf for term in compare(pairs[::2]).values())
    assert all(term == 0.0 for term in compare(pairs[1::2]).values())


def test_several_matches_of_one_site_add_up() -> None:
    teacher, student = shifted(0.0, y="target"), shifted(2.0, y="target")
    loss = Objective([Match("y"), Match("*", divergence=wasserstein2, weight=0.5)])(teacher, student, batch_size=3)
    assert loss.terms["y"].item() == pytest.approx(4.0 + 0.5 * 8.0)


def test_terms_average_over_rows_and_sum_over_elements() -> None:
    teacher, student = shifted(0.0, y="target"), shifted(1.0, y="target")
    for model in (teacher, student):
        model.shapes["y"] = (3, 4)
    for rows in (1, 7):
        assert Objective([Match("y")])(teacher, student, batch_size=rows).total.item() == pytest.approx(6.0)


def test_a_divergence_that_does_not_apply_names_the_site() -> None:
    teacher, student = shifted(0.0, h="deterministic", y="target"), shifted(1.0, h="deterministic", y="target")
    with pytest.raises(DivergenceError, match=r"site 'h'"):
        Objective([Match("h", divergence=kl)])(teacher, student, batch_size=2)
