"""What happens to the models before the first step of a training: constants from the data, and one precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limbeck.core.copying import copied
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.core.stand_in import StandIn, real_model
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.precision import TRUE_PRECISION, like_weights
from limbeck.engine.stages.seeding import derive_seed, seeded
from limbeck.engine.training.module import Companions

__all__ = ["adapt", "prepared"]

# Rows from which a student sets constants that depend on the data, and samples of a teacher that replace them.
_ADAPTING = 10_000
_SAMPLES = 1000


def prepared(
    student: DGM, objective: Objective, companions: Companions, *, seed: int, precision: str, adapted: bool
) -> Companions:
    """Prepare student and objective for a training; return the companions with the teacher in their precision.

    Args:
        student: gets its constants from the data, unless it has them.
        objective: sees both models.
        companions: those of the training.
        seed: of the training.
        precision: of the trainer.
        adapted: whether the student gets its constants from a checkpoint.
    """
    teacher, batches = companions.teacher, companions.batches
    if TRUE_PRECISION.get(precision) is torch.float64:
        student.double()  # now: what is prepared in less precision than the training has would stay as rough as it is
    with seeded(derive_seed(seed, "prepare")):
        source = None if teacher is None else _in_precision_of(student, real_model(teacher))
        objective.prepare(source, student, _example(student, companions))
        if not adapted:
            found = _in_precision_of(student, teacher)
            adapt(student, found, _example(student, companions), None if batches is None else batches.rows)
    # Lightning would do it too, but only after the copy for the moving average is made, and not for the teacher.
    for trained in (student, objective):
        trained.to(TRUE_PRECISION.get(precision))
    return Companions(_in_precision_of(student, teacher), batches, companions.teacher_inputs)


@torch.no_grad()
def adapt(student: DGM, teacher: DGM | None, x: Tensor | None, data: Batch | None) -> None:
    """Let a student set its constants that depend on the data: from the data or, without any, the teacher's samples.

    Args:
        student: see :meth:`limbeck.DGM.adapt`.
        teacher: the frozen model, if there is one.
        x: conditioning inputs for the teacher, shape (rows, ...), if the models have any.
        data: all rows of the training data, if any are used.
    """
    if type(student).adapt is DGM.adapt:
        return
    if data is not None:
        rows = Batches(data, min(len(data), _ADAPTING), 0)(0)
        student.adapt(Batch(like_weights(student, rows.y), None if rows.x is None else like_weights(student, rows.x)))
    elif teacher is not None:
        with frozen(teacher):
            targets = teacher.trace(_SAMPLES if x is None else None, x).targets
        student.adapt(Batch(teacher.join_targets(targets), x))


def _example(student: DGM, companions: Companions) -> Tensor | None:
    """Conditioning inputs as a training has them, shape (rows, ...), in the student's precision."""
    teacher = companions.teacher
    if isinstance(teacher, StandIn) and teacher.chooses_inputs:
        x: Tensor | None = teacher.choose(_SAMPLES)
    elif companions.teacher_inputs is not None:
        x = companions.teacher_inputs
    else:
        x = None if companions.batches is None else companions.batches(0).x
    return None if x is None else like_weights(student, x)


def _in_precision_of(student: nn.Module, teacher: DGM | None) -> DGM | None:
    """The teacher, or a copy of it in the student's precision if it has another one."""
    wanted = {parameter.dtype for parameter in student.parameters() if parameter.is_floating_point()}
    if teacher is None or len(wanted) != 1:
        return teacher
    dtype = wanted.pop()
    state = [
        value for value in teacher.state_dict().values() if isinstance(value, Tensor)
    ]  # quantised layers have more
    if all(tensor.dtype == dtype for tensor in state if tensor.is_floating_point()):
        return teacher
    return copied(teacher).to(dtype)
