"""What an objective has learned beside the student: weights of its divergences, and what they say of each channel."""

from __future__ import annotations

import json
from pathlib import Path

from limbeck.core.objective import Objective
from limbeck.engine.training.variances import VARIANCES, learned_variances
from limbeck.files import atomic_write_bytes, atomic_write_text

__all__ = ["OBJECTIVE", "save_objective"]

OBJECTIVE = "objective.safetensors"
"""Name of the file beside a student."""


def save_objective(objective: Objective, folder: Path) -> None:
    """Write what was learned, if an objective has parameters of its own.

    Args:
        objective: after a training.
        folder: the student's.

    Raises:
        StorageError: the directory cannot be written.
    """
    from safetensors.torch import save

    if any(parameter.requires_grad for parameter in objective.parameters()):
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in objective.state_dict().items()}
        atomic_write_bytes(folder / OBJECTIVE, save(tensors))
    if found := learned_variances(objective):
        atomic_write_text(folder / VARIANCES, json.dumps(found, indent=2) + "\n")
