"""Couplings: how the student's run is tied to the teacher's.

:mod:`~limbeck.core.coupling.coupling` defines what a coupling is, :mod:`~limbeck.core.coupling.shared` those of the
first paper; each of the others has a module of its own.
"""

from limbeck.core.coupling.beam import BeamTargets
from limbeck.core.coupling.coupling import (
    Coupling,
    Observing,
    Preparable,
    Request,
    is_scheduled,
    needs_data,
    prepare_coupling,
    runs_inference,
)
from limbeck.core.coupling.data_targets import DataTargets
from limbeck.core.coupling.inference import SharedObservations
from limbeck.core.coupling.labels import WithData
from limbeck.core.coupling.mapped import MappedNoise
from limbeck.core.coupling.posterior import WithPosterior
from limbeck.core.coupling.replay import TeacherSamples
from limbeck.core.coupling.shared import IndependentNoise, SharedNoise, SharedValues

__all__ = [
    "BeamTargets",
    "Coupling",
    "DataTargets",
    "IndependentNoise",
    "MappedNoise",
    "Observing",
    "Preparable",
    "Request",
    "SharedNoise",
    "SharedObservations",
    "SharedValues",
    "TeacherSamples",
    "WithData",
    "WithPosterior",
    "is_scheduled",
    "needs_data",
    "prepare_coupling",
    "runs_inference",
]
