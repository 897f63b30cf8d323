"""When a training can be stopped by validation at all. Imports nothing slow: a recipe asks before anything runs."""

from __future__ import annotations

from limbeck.core.graph import DGM
from limbeck.core.objective import Objective
from limbeck.engine.options import Training
from limbeck.errors import RecipeError

__all__ = ["check_stopping"]


def check_stopping(options: Training, student: DGM, objective: Objective, who: str, *, validation: bool) -> None:
    """Check that a model which is to be validated can be; without ``validate_every`` there is nothing to check.

    Args:
        options: the model's optimisation.
        student: the model.
        objective: what its training minimises.
        who: what to call it in a message.
        validation: whether there are validation rows.

    Raises:
        RecipeError: there are no rows, the model has no loss on rows, or one that the objective leaves meaningless.
    """
    if options.validate_every is None:
        return
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
            f"method of {who} does not train; leave validate_every out, or give the objective a train_weight"
        )
