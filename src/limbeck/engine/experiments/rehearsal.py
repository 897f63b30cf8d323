"""Checks before anything is trained: do the models fit the data, the methods the models, the settings this machine?"""

from __future__ import annotations

import copy

from limbeck.core.copying import copied
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.data import Dataset
from limbeck.engine.evaluations.classifiers.predictive import class_count
from limbeck.engine.evaluations.images.feature_networks import wants_network
from limbeck.engine.experiments.recipe import Recipe, rows_of
from limbeck.engine.experiments.rehearsal_steps import rehearse_steps
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.placement import running_device
from limbeck.engine.stages.seeding import seeded
from limbeck.engine.training.compiling import check_compiler
from limbeck.engine.training.loop import make_loop, quiet
from limbeck.errors import LimbeckError, RecipeError

__all__ = ["check_classes", "check_method", "check_runs", "classes_of", "rehearse"]

_ROWS = 4  # rows of a rehearsal; batch norms need more than one


def classes_of(dataset: Dataset) -> int:
    """Number of classes of labelled data: by their names if the data have any, otherwise by the largest label."""
    names = getattr(dataset, "classes", None)
    return len(names) if names else 1 + max(int(split.parts["labels"].max()) for split in dataset.splits.values())


def check_classes(model: DGM, dataset: Dataset, condition: str, who: str) -> None:
    """Check that a classifier has an output for every label of its data.

    Args:
        model: any model; nothing is checked if its target is not a class, or it classifies nothing.
        dataset: what it is trained or measured on, with ``labels``.
        condition: the part of the data that it classifies.
        who: what to call it in messages.

    Raises:
        RecipeError: it has fewer classes than there are labels, or cannot run on the data.
    """
    count = check_runs(model, dataset, condition, who)
    largest = max(int(split.parts["labels"].max()) for split in dataset.splits.values())
    if count is not None and largest >= count:
        raise RecipeError(
            f"{who} has {count} classes, but the labels of {dataset.name} go up to {largest}; give it "
            f"{classes_of(dataset)} classes, or choose classes of the data"
        )


def check_runs(model: DGM, dataset: Dataset, condition: str, who: str) -> int | None:
    """Check that a model can run on its data.

    Args:
        model: any model.
        dataset: what it is trained or measured on, with ``labels``.
        condition: the part of the data that it is given.
        who: what to call it in messages.

    Returns:
        The number of its classes; ``None`` if its target is not a class, or it is given nothing.

    Raises:
        RecipeError: it cannot run on the data.
    """
    x = _few(dataset, condition, 2).x
    if x is None:
        return None
    try:
        return class_count(model, x)
    except LimbeckError as error:
        raise RecipeError(f"{who}: {error}") from None
    except Exception as error:  # the network may be the user's: any error can be raised in it
        shape = "x".join(map(str, x.shape[1:]))
        kind = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
        raise RecipeError(
            f"{who} cannot run on the {condition} of {dataset.name}, {shape} each: {kind}{' '.join(str(error).split())}"
        ) from error


def rehearse(recipe: Recipe, dataset: Dataset | None, teacher_dataset: Dataset | None) -> None:
    """Check models and machine, and run one step of each method on a few rows with untrained students.

    Training may take hours. A user should not learn after them that a method names a layer which its student lacks,
    that a saved model does not fit those that start from it, or that the machine has no such device or, if steps are to
    be compiled, no compiler. Steps are run where they take a moment: for classifiers, and for small models of anything
    else.

    Args:
        recipe: the experiment.
        dataset: what the students learn from.
        teacher_dataset: what the teacher learns from.

    Raises:
        RecipeError: names the model or the method and what does not fit, or the trainer options are impossible here, or
            a share is given for choices that nobody makes.
        CompilationError: nothing can be compiled here.
    """
    if recipe.choice_share != Recipe.choice_share and not any(base.choices for base in recipe.methods.values()):
        raise RecipeError(f"choice_share has no effect: no method has choices; leave it at {Recipe.choice_share}")
    with quiet():
        make_loop(recipe.training, recipe.trainer, [])
    recipe.evaluation.measures(dataset)  # which refuses data that it cannot measure anything on
    _check_starts(recipe)
    if any(training is not None and training.compile for training in (recipe.teacher_training, recipe.training)):
        check_compiler(running_device(recipe.trainer.accelerator))
    if dataset is None or teacher_dataset is None or recipe.target != "labels" or recipe.condition == "none":
        rehearse_steps(recipe, dataset, teacher_dataset)
        return
    if recipe.fits_teacher:
        check_classes(recipe.teacher, teacher_dataset, recipe.condition, "the teacher")
    for method in recipe.methods:
        check_classes(recipe.student_of(method), dataset, recipe.condition, f"the student of {method!r}")
    if recipe.tasks is not None:
        return
    given = recipe.teacher_from  # its layers and classes may be others than the recipe's
    teacher = recipe.teacher if given is None else recipe.teacher.reloaded(given)
    for method, baseline in recipe.methods.items():
        if baseline.objective.needs_teacher and not wants_network(baseline.objective):
            student = recipe.student_of(method)
            check_method(baseline.objective, teacher, student, dataset, recipe.condition, repr(method))


def _check_starts(recipe: Recipe) -> None:
    """Check that students can start from the teacher of the run, or from the saved model that the recipe names.

    Raises:
        RecipeError: names the method, and why its students cannot.
    """
    for method in recipe.methods:
        start, student = recipe.start_of(method), recipe.student_of(method)
        try:
            if start == "teacher" and recipe.fits_teacher:
                where = "the teacher, as always with tasks" if recipe.tasks is not None else "the teacher"
                copied(student).start_from(recipe.teacher)
            elif start == "source" and recipe.source_from is not None:
                where = f"{recipe.source_from} (source_from)"
                copied(student).start_from(student.reloaded(recipe.source_from))
        except LimbeckError as error:
            raise RecipeError(f"{method!r} starts from {where}: {error}") from None


def check_method(objective: Objective, teacher: DGM, student: DGM, dataset: Dataset, condition: str, who: str) -> None:
    """Run one step of a method on a few rows; models and method are not changed.

    Args:
        objective: the method.
        teacher: any model of the teacher's architecture.
        student: any model of the student's architecture.
        dataset: what students learn from, with ``labels``.
        condition: the part of the data that is classified.
        who: what to call the method in messages.

    Raises:
        RecipeError: the method cannot compare these two models.
    """
    batch = _few(dataset, condition, _ROWS)
    try:
        objective, student = copy.deepcopy(objective), copied(student)
        with seeded(0):
            objective.prepare(teacher, student, batch.x)
            # At a quarter, most schedules have begun and few are over; what weighs nothing then may do so later.
            learns = any(
                objective(teacher, student.train(), batch=batch, progress=progress).total.requires_grad
                for progress in (0.25, 0.75, 1.0)
            )
    except LimbeckError as error:
        raise RecipeError(f"{who}: {error}") from None
    if not learns:
        raise RecipeError(f"{who}: the student has nothing to learn, since all weights are 0; raise one of them")


def _few(dataset: Dataset, condition: str, count: int) -> Batch:
    rows = rows_of(dataset.train, "labels", condition)
    return Batches(rows, min(count, len(rows)), 0)(0)
