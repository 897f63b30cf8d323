"""Whether a training can be stopped by validation. Imports nothing slow: a recipe checks it before anything runs."""

from __future__ import annotations

from typing import Literal

from limbeck.core.graph import DGM
from limbeck.core.objective import Objective
from limbeck.engine.settings.options import Training
from limbeck.errors import RecipeError

__all__ = ["check_stopping", "validated_on"]


def validated_on(
    options: Training, objective: Objective, *, validation: bool, held_out: int | None = None
) -> Literal["rows", "pairs"] | None:
    """What a training is validated on; ``None`` if it is not. See :class:`Training` for the choice by default.

    Args:
        options: the optimisation.
        objective: what it minimises.
        validation: whether there are validation rows.
        held_out: number of recorded pairs that are held out; ``None`` if the teacher runs anew in each step.
    """
    if options.validate_every is None:
        return None
    if options.validate_on is not None:
        return options.validate_on
    data_free = objective.needs_teacher and not objective.needs_data
    return "pairs" if data_free and (held_out is not None or not validation) else "rows"


def check_stopping(
    options: Training, student: DGM, objective: Objective, who: str, *, validation: bool, held_out: int | None = None
) -> None:
    """Check that a model can be validated, if ``validate_every`` is set.

    Args:
        options: the model's optimisation.
        student: the model.
        objective: what its training minimises.
        who: what to call it in a message.
        validation: whether there are validation rows.
        held_out: as for :func:`validated_on`.

    Raises:
        RecipeError: there is nothing to validate on, or the model has no loss on rows, or that loss means nothing after
            a training with this objective.
    """
    on = validated_on(options, objective, validation=validation, held_out=held_out)
    if on == "rows":
        _check_rows(student, objective, who, validation=validation)
    elif on == "pairs":
        _check_pairs(objective, who, held_out)


def _check_pairs(objective: Objective, who: str, held_out: int | None) -> None:
    if objective.needs_data or not objective.needs_teacher:
        raise RecipeError(
            f"validate_on: {who} learns from rows of data and cannot be validated on the teacher's draws alone; say "
            "validate_on: rows, or leave it out"
        )
    if held_out == 0:
        raise RecipeError(
            f"validate_every: {who} is to stop by recorded pairs that it never trains on, but none are held out; give "
            "pairs.held_out, or leave validate_every out to take the weights of the last step"
        )


def _check_rows(student: DGM, objective: Objective, who: str, *, validation: bool) -> None:
    if not validation:
        raise RecipeError(
            f"validate_every: {who} is to stop by its loss on validation rows, but there are none; give data, or leave "
            "validate_every out to take the weights of the last step"
        )
    if type(student).loss is DGM.loss:
        raise RecipeError(
            f"validate_every: {who} is to stop by its own loss, but {type(student).__name__} has no loss on data; "
            "define loss(self, batch, *, progress=1.0), or leave validate_every out"
        )
    if not objective.trains_inference and any(True for _ in student.inference_parameters()):
        raise RecipeError(
            f"validate_every: the loss of {type(student).__name__} on rows needs its inference network, which the "
            f"method of {who} does not train; leave validate_every out, give the objective a train_weight, or say "
            "validate_on: pairs"
        )
