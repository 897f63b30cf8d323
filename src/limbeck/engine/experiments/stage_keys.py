"""Fingerprints of everything that the weights of a recipe's models depend on."""

from __future__ import annotations

from limbeck.engine.evaluations.images.feature_networks import wants_network
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.model_description import describe_model
from limbeck.engine.stages.objective_description import describe_objective
from limbeck.engine.stages.seeding import derive_seed
from limbeck.engine.training.stopping import validated_on

__all__ = ["student_key", "teacher_key", "uses_rows", "uses_teacher"]


def teacher_key(recipe: Recipe, rows_key: str) -> str:
    """Fingerprint of everything that the weights of a recipe's teacher depend on.

    Args:
        recipe: one that trains its teacher.
        rows_key: fingerprint of the rows of data as the models see them.

    Raises:
        RecipeError: the recipe has no ``teacher_training``.
    """
    return fingerprint(
        model=describe_model(recipe.teacher), rows=rows_key, seed=derive_seed(recipe.seed, "teacher"),
        training=recipe.needed_teacher_training.essential(), precision=recipe.trainer.precision,
    )  # fmt: skip


def student_key(recipe: Recipe, method: str, seed: int, teacher: str, rows_key: str, source: str | None = None) -> str:
    """Fingerprint of everything that the weights of a student depend on.

    A data-free method depends on the data only if it is validated on them. A method without a teacher depends on one
    only if its students start from the teacher's weights.

    Args:
        recipe: the experiment.
        method: one of its methods.
        seed: the student's seed.
        teacher: fingerprint of the teacher.
        rows_key: fingerprint of the rows of data as the models see them.
        source: fingerprint of the model that the student starts from, with ``start: source``.
    """
    baseline, training = recipe.methods[method], recipe.training_of(method)
    # ``rows_key`` covers all splits. Settings that came later have an entry only if they are used, so that models that
    # were trained before keep their fingerprints.
    pairs = recipe.pairs_of(method)
    held_out = None if pairs is None else pairs.held_out
    validation = recipe.data is not None
    on = validated_on(training, baseline.objective, validation=validation, held_out=held_out)
    later: dict[str, object] = {"validation": rows_key} if on == "rows" else {}
    if pairs is not None:
        later |= {"pairs": pairs.essential(), "pairs_seed": derive_seed(recipe.seed, "pairs")}
    if wants_network(baseline.objective):
        later["features"] = rows_key
    if recipe.per_class is not None and uses_rows(recipe, method):
        later["per_class"] = recipe.per_class
    if source is not None:
        later["source"] = source
    if recipe.teacher_cache is not None and baseline.objective.needs_teacher:
        later |= recipe.teacher_cache.essential()
    if baseline.choices:  # only while a sweep is planned: choices are made before a student is trained
        later["choices"] = [baseline.choices, recipe.choice_share]
    return fingerprint(
        model=describe_model(recipe.student_of(method)), objective=describe_objective(baseline.objective), seed=seed,
        training=training.essential(), precision=recipe.trainer.precision,
        start=recipe.start_of(method), tasks=recipe.tasks, which=baseline.rows,
        teacher=teacher if uses_teacher(recipe, method) else None,
        rows=rows_key if uses_rows(recipe, method) else None, **later,
    )  # fmt: skip


def uses_rows(recipe: Recipe, method: str) -> bool:
    """Whether the training of a method sees rows of the data; recorded pairs have their own conditioning inputs."""
    needed = recipe.methods[method].objective.needs_data
    return needed or (recipe.condition != "none" and recipe.pairs_of(method) is None)


def uses_teacher(recipe: Recipe, method: str) -> bool:
    """Whether a method's students depend on the teacher."""
    return recipe.methods[method].objective.needs_teacher or recipe.start_of(method) == "teacher"
