"""The methods of the papers as named objectives: each is a coupling and a few matches, not a training loop.

:class:`~limbeck.core.schedule.Ramp`, a weight that changes over the training, has its public name here too.
"""

from limbeck.core.methods.basic import joint, local, marginalized, scratch, surrogate
from limbeck.core.methods.continual_learning import continual, continual_local, replay, replay_consistent
from limbeck.core.methods.diffusion.few_steps import (
    consistency,
    denoising_student,
    distribution_matching,
    few_step,
    progressive,
    sharpened,
)
from limbeck.core.methods.flows import combined, density, guided, ilkd, lkd, reverse_density, skd
from limbeck.core.methods.knowledge_transfer import transfer
from limbeck.core.methods.reductions import feature, gan, sequence_level, sequence_mode, vanilla, word_level
from limbeck.core.methods.unequal import mapped, own_bound
from limbeck.core.schedule import Ramp

__all__ = [
    "Ramp",
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
