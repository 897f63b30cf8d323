"""The methods of the papers as named objectives: public names of :mod:`limbeck.core.methods` and what builds on it."""

from limbeck.core.continual import continual, continual_local, replay, replay_consistent
from limbeck.core.methods import joint, local, marginalized, scratch, surrogate
from limbeck.core.reductions import feature, gan, sequence_level, sequence_mode, vanilla, word_level
from limbeck.core.unequal import mapped, own_bound

__all__ = [
    "continual",
    "continual_local",
    "feature",
    "gan",
    "joint",
    "local",
    "mapped",
    "marginalized",
    "own_bound",
    "replay",
    "replay_consistent",
    "scratch",
    "sequence_level",
    "sequence_mode",
    "surrogate",
    "vanilla",
    "word_level",
]
