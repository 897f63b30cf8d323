"""Objectives: a coupling and the matches of the sites that are compared, or a weighted sum of objectives."""

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
