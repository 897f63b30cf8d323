"""The methods of the papers as named objectives. Public name of :mod:`limbeck.core.methods` and what reduces to it."""

from limbeck.core.methods import joint, local, marginalized, scratch, surrogate
from limbeck.core.reductions import feature, gan, sequence_level, sequence_mode, vanilla, word_level

__all__ = [
    "feature",
    "gan",
    "joint",
    "local",
    "marginalized",
    "scratch",
    "sequence_level",
    "sequence_mode",
    "surrogate",
    "vanilla",
    "word_level",
]
