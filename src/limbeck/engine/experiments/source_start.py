"""Students that start from a source: their own architecture, trained as the teacher is and on the teacher's data."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.core.methods import scratch
from limbeck.core.storage import WEIGHTS
from limbeck.engine.evaluations.classifiers.predictive import class_count
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.experiments.tasks import Task
from limbeck.engine.experiments.training_stage import TrainingStage
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.model_description import describe_model
from limbeck.engine.stages.seeding import derive_seed
from limbeck.errors import LimbeckError, RecipeError

__all__ = ["for_classes", "source_key", "source_stage"]


def source_key(recipe: Recipe, method: str, rows_key: str) -> str | None:
    """Fingerprint of everything that the source of a method's students depends on.

    Args:
        recipe: the experiment.
        method: one of its methods.
        rows_key: fingerprint of the teacher's rows as the models see them.

    Returns:
        ``None`` if the method's students start elsewhere.

    Raises:
        RecipeError: the source is trained with ``teacher_training``, and the recipe has none.
    """
    if recipe.start_of(method) != "source":
        return None
    if recipe.source_from is not None:
        weights = Path(recipe.source_from) / WEIGHTS
        content = weights.read_bytes() if weights.is_file() else recipe.source_from.encode()
        return fingerprint(source=hashlib.sha256(content).hexdigest())
    return fingerprint(
        source=describe_model(recipe.student_of(method)), rows=rows_key, seed=derive_seed(recipe.seed, "source"),
        training=recipe.needed_teacher_training.essential(), precision=recipe.trainer.precision,
    )  # fmt: skip


def source_stage(recipe: Recipe, method: str, teacher_task: Task) -> TrainingStage:
    """Training the source of a method's students; it is the same for all methods of one architecture.

    Args:
        recipe: the experiment.
        method: one with ``start: source``.
        teacher_task: the teacher's rows.

    Raises:
        RecipeError: the method starts elsewhere, or its architecture cannot have as many classes as the teacher's data.
    """
    key, rows = source_key(recipe, method, teacher_task.key), teacher_task.rows
    if key is None:
        raise RecipeError(f"{method!r} starts from no source; give it start: source")
    template = recipe.student_of(method)
    if rows is not None and rows.x is not None and not rows.y.is_floating_point():
        template = for_classes(template, 1 + int(rows.y.max()), rows.x[:2].float())
    return TrainingStage(
        template, scratch(), recipe.needed_teacher_training, recipe.trainer, derive_seed(recipe.seed, "source"),
        f"start of {method}", key, rows=rows, validation=teacher_task.validation,
    )  # fmt: skip


def for_classes(template: DGM, count: int, x: Tensor) -> DGM:
    """A classifier of the same architecture for another number of classes; itself if the number is the same.

    Args:
        template: a classifier whose constructor, or the constructor of whose network, has an argument ``classes``.
        count: number of classes.
        x: a few rows of conditioning input, shape (rows, ...).

    Raises:
        RecipeError: there is no such argument.
    """
    if class_count(template, x) in (count, None):
        return template
    config = copy.deepcopy(template.config)
    settings = config.get("settings")
    (settings if isinstance(settings, dict) else config)["classes"] = count
    try:
        made = type(template)(**config)
        fits = class_count(made, x) == count
    except (LimbeckError, TypeError):
        fits = False
    if not fits:
        raise RecipeError(
            f"start: source needs a {type(template).__name__} with the {count} classes of the teacher's data, but its "
            "settings have no argument 'classes' that changes their number"
        )
    return made
