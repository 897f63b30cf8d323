"""One step of every training of a recipe, on a few rows and with untrained models, where that takes a moment."""

from __future__ import annotations

import contextlib
import copy
import time

from limbeck.core.copying import copied
from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.methods import scratch
from limbeck.core.objective import Objective
from limbeck.data import Dataset
from limbeck.engine.evaluations.images.feature_networks import wants_network
from limbeck.engine.experiments.recipe import Recipe, rows_of
from limbeck.engine.experiments.stage_keys import uses_rows
from limbeck.engine.settings.batches import Batches
from limbeck.engine.stages.seeding import seeded
from limbeck.errors import LimbeckError, NonFiniteLossError, RecipeError
from limbeck.metrics import parameter_count

__all__ = ["rehearse_steps"]

_ROWS = 4  # of a step; batch norms need more than one
_LARGEST = 2_000_000  # parameters of both models together; a step of more can take long on a CPU
_SECONDS = 2.0  # after which no further method is tried


def rehearse_steps(recipe: Recipe, dataset: Dataset | None, teacher_dataset: Dataset | None) -> None:
    """Run one step of the teacher's training, if there is one, and of each method's.

    Only what this library refuses is told of. Whatever else goes wrong with models that have learned nothing may go
    well with others.

    Args:
        recipe: of one with recorded pairs, whose teacher's runs are long, only the steps that need no teacher are run.
        dataset: what the students learn from.
        teacher_dataset: what the teacher learns from.

    Raises:
        RecipeError: names the method and why it cannot train.
    """
    if recipe.fits_teacher and teacher_dataset is not None:
        _step(scratch(), None, recipe.teacher, _few(recipe, teacher_dataset), "the teacher")
    began = time.monotonic()
    for method, baseline in recipe.methods.items():
        if time.monotonic() - began > _SECONDS:  # as for flows that are inverted number by number
            return
        objective, student = baseline.objective, recipe.student_of(method)
        needs_teacher = objective.needs_teacher
        # A teacher that is loaded may be another than the one that the recipe describes.
        unknown = recipe.pairs is not None or recipe.teacher_from is not None
        if wants_network(objective) or (needs_teacher and unknown):
            continue
        rows = _few(recipe, dataset) if dataset is not None and uses_rows(recipe, method) else None
        _step(objective, recipe.teacher if needs_teacher else None, student, rows, repr(method))


def _step(objective: Objective, teacher: DGM | None, student: DGM, rows: Batch | None, who: str) -> None:
    """Run one step; models and objective are not changed, and the caller's random state is left alone."""
    models = (student,) if teacher is None else (student, teacher)
    if sum(parameter_count(model.parameters()) for model in models) > _LARGEST:
        return
    batch = None if rows is None else _placed(rows, student)
    try:
        objective, student = copy.deepcopy(objective), copied(student)
        teacher = None if teacher is None else copied(teacher)
        with seeded(0), contextlib.suppress(ArithmeticError, RuntimeError, TypeError, ValueError, LookupError):
            objective.prepare(teacher, student, None if batch is None else batch.x)
            # At a quarter, most schedules have begun and few are over.
            objective(teacher, student.train(), batch_size=_ROWS if batch is None else None, batch=batch, progress=0.25)
    except NonFiniteLossError:
        return
    except LimbeckError as error:
        raise RecipeError(f"{who}: {error}") from None


def _few(recipe: Recipe, dataset: Dataset) -> Batch:
    rows = rows_of(dataset.train, recipe.target, recipe.condition)
    return Batches(rows, min(_ROWS, len(rows)), 0)(0)


def _placed(rows: Batch, student: DGM) -> Batch:
    """Rows in the student's precision, unless they are labels."""
    dtype = first_parameter(student, rows.y).dtype
    y, x = (part if part is None or not part.is_floating_point() else part.to(dtype) for part in (rows.y, rows.x))
    return Batch(rows.y if y is None else y, x)
