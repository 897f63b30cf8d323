"""Objectives: a coupling and the matches of sites that it is to compare, or a sum of such."""

from limbeck.core.objective.combination import Combined
from limbeck.core.objective.comparison import Divergence
from limbeck.core.objective.match import Match, Weight
from limbeck.core.objective.objective import Objective

__all__ = [
    "Combined",
    "Divergence",
    "Match",
    "Objective",
    "Weight",
]
