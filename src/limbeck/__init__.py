"""limbeck distils large deep probabilistic models (teachers) into small or fast ones (students).

Importing the package costs nothing; the names below are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limbeck.names import lazy_names

if TYPE_CHECKING:
    from limbeck import data, divergence, engine, methods, metrics, models, reparam, report
    from limbeck.core.coupling import IndependentNoise, MappedNoise, SharedNoise, SharedValues
    from limbeck.core.export import export
    from limbeck.core.graph import DGM
    from limbeck.core.loss import Batch, Loss
    from limbeck.core.objective import Match, Objective
    from limbeck.core.sites import Sites
    from limbeck.core.trace import Kind, Site, Trace
    from limbeck.engine.distill import Distilled, distill
    from limbeck.engine.teachers.prepare import prepare
    from limbeck.errors import LimbeckError

__version__ = "0.1.0"

__getattr__ = lazy_names(
    __name__,
    {
        "Batch": "limbeck.core.loss",
        "DGM": "limbeck.core.graph",
        "Distilled": "limbeck.engine.distill",
        "IndependentNoise": "limbeck.core.coupling",
        "Kind": "limbeck.core.trace",
        "LimbeckError": "limbeck.errors",
        "Loss": "limbeck.core.loss",
        "MappedNoise": "limbeck.core.coupling",
        "Match": "limbeck.core.objective",
        "Objective": "limbeck.core.objective",
        "SharedNoise": "limbeck.core.coupling",
        "SharedValues": "limbeck.core.coupling",
        "Site": "limbeck.core.trace",
        "Sites": "limbeck.core.sites",
        "Trace": "limbeck.core.trace",
        "data": "limbeck.data",
        "distill": "limbeck.engine.distill",
        "divergence": "limbeck.divergence",
        "engine": "limbeck.engine",
        "export": "limbeck.core.export",
        "methods": "limbeck.methods",
        "metrics": "limbeck.metrics",
        "models": "limbeck.models",
        "prepare": "limbeck.engine.teachers.prepare",
        "reparam": "limbeck.reparam",
        "report": "limbeck.report",
    },
)

__all__ = [
    "DGM",
    "Batch",
    "Distilled",
    "IndependentNoise",
    "Kind",
    "LimbeckError",
    "Loss",
    "MappedNoise",
    "Match",
    "Objective",
    "SharedNoise",
    "SharedValues",
    "Site",
    "Sites",
    "Trace",
    "__version__",
    "data",
    "distill",
    "divergence",
    "engine",
    "export",
    "methods",
    "metrics",
    "models",
    "prepare",
    "reparam",
    "report",
]  # fmt: skip


def __dir__() -> list[str]:
    return sorted(__all__)
