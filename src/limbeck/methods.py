"""The methods of the papers as named objectives: public names of :mod:`limbeck.core.methods` and what builds on it."""

from limbeck.core.continual import continual, continual_local, replay, replay_consistent
from limbeck.core.diffusion_methods import (
    consistency,
    denoising_student,
    distribution_matching,
    few_step,
    progressive,
    sharpened,
)
from limbeck.core.flow_methods import combined, density, guided, ilkd, lkd, reverse_density, skd
from limbeck.core.methods import joint, local, marginalized, scratch, surrogate
from limbeck.core.reductions import feature, gan, sequence_level, sequence_mode, vanilla, word_level
from limbeck.core.transfer import transfer
from limbeck.core.unequal import mapped, own_bound

__all__ = [
    "combined",
    "consistency",
    "continual",
    "continual_local",
    "denoising_student",
    "density",
    "distribution_matching",
    "feature",
    "few_step",
    "gan",
    "guided",
    "ilkd",
    "joint",
    "lkd",
    "local",
    "mapped",
    "marginalized",
    "own_bound",
    "progressive",
    "replay",
    "replay_consistent",
    "reverse_density",
    "scratch",
    "sequence_level",
    "sequence_mode",
    "sharpened",
    "skd",
    "surrogate",
    "transfer",
    "vanilla",
    "word_level",
]
