"""Students that learn another task than their teacher did, or from fewer rows: what a recipe may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limbeck.errors import RecipeError

if TYPE_CHECKING:
    from limbeck.data import Dataset
    from limbeck.engine.experiments.recipe import Recipe

__all__ = ["check_transfer", "transfer_notes"]


def check_transfer(recipe: Recipe) -> None:
    """Check what a recipe says of ``teacher_data``, ``per_class`` and ``start: source``.

    Args:
        recipe: all of it.

    Raises:
        RecipeError: names the field and what is missing for it.
    """
    if recipe.per_class is not None and recipe.per_class < 1:
        raise RecipeError(f"per_class must be at least 1, not {recipe.per_class}; leave it out for all rows")
    asked = [name for name in ("teacher_data", "per_class") if getattr(recipe, name) is not None]
    if asked and recipe.data is None:
        raise RecipeError(f"{asked[0]} says from what students learn, but the recipe names no data")
    if asked and recipe.tasks is not None:
        raise RecipeError(f"with tasks there is no {asked[0]}: the tasks say who learns from which rows")
    starting = next((method for method in recipe.methods if recipe.start_of(method) == "source"), None)
    if starting is None or recipe.source_from is not None:
        return
    if recipe.data is None:
        raise RecipeError(
            f"{starting!r} starts from a model trained on data (start: source), but the recipe names none"
        )
    untaught = recipe.teacher_from is not None and recipe.teacher_data is None
    if recipe.teacher_training is None or untaught:
        missing = "teacher_data" if untaught else "teacher_training"
        raise RecipeError(
            f"{starting!r} starts from its own architecture, trained as the teacher was and on the teacher's data "
            f"(start: source); give the recipe {missing}"
        )


def transfer_notes(recipe: Recipe, dataset: Dataset | None, source: Dataset | None) -> list[str]:
    """What a reader of the results must know of who learned from what.

    Args:
        recipe: the experiment.
        dataset: the students' data.
        source: the teacher's; the same object if they are the students'.
    """
    notes = []
    if dataset is not None and source is not None and source is not dataset:
        notes.append(
            f"The teacher learned {source.name} and is measured on its test rows, the students learned {dataset.name} "
            "and are measured on its test rows: the teacher's numbers cannot be compared with theirs."
        )
    if recipe.per_class is not None and dataset is not None:
        notes.append(
            f"Students learned from {recipe.per_class:,} training rows of each class"
            f"{'' if source is not dataset else ', the teacher from all'}. The choice of rows is the same for all "
            "methods of a seed and another for each seed."
        )
    starting = [method for method in recipe.methods if recipe.start_of(method) == "source"]
    if starting and source is not None:
        where = f"all training rows of {source.name} with the teacher's settings"
        if recipe.source_from is not None:
            where = f"what {recipe.source_from} was trained on"
        notes.append(
            f"{' and '.join(starting)} {'starts' if len(starting) == 1 else 'start'} from the student's own "
            f"architecture trained on {where}, which no other student has seen."
        )
    return notes
