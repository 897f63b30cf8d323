"""The names that options take."""

from __future__ import annotations

from limbeck import methods
from limbeck.cli.known_classes import known_names


def test_an_objective_is_a_method_and_a_weight_is_none() -> None:
    names = known_names("objective")
    assert {"limbeck.methods.surrogate", "limbeck.methods.combined", "limbeck.methods.progressive"} <= set(names)
    assert "Ramp" in methods.__all__
    assert "limbeck.methods.Ramp" not in names
