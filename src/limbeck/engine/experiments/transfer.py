"""Students that learn another task than their teacher, or from fewer rows: checks of recipes, and notes for reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limbeck.errors import RecipeError

if TYPE_CHECKING:
    from limbeck.data import Dataset
    from limbeck.engine.experiments.recipe import Recipe

__all__ = ["check_transfer", "transfer_notes"]


def check_transfer(recipe: Recipe) -> None:
    """Check the fields ``teacher_data``, ``per_class`` and ``start: source`` of a recipe.

    Args:
        recipe: the experiment.

    Raises:
        RecipeError: names the field and what is missing for it.
    """
    if recipe.per_class is not None and recipe.per_class < 1:
        raise RecipeError(f"per_class must be at least 1, not {recipe.per_class}; leave it out for all rows")
    fields = [name for name in ("teacher_data", "per_class") if getattr(recipe, name) is not None]
    if fields and recipe.data is None:
        raise RecipeError(f"{fields[0]} says which data models learn from, but the recipe names no data")
    if fields and recipe.tasks is not None:
        raise RecipeError(f"with tasks there is no {fields[0]}: the tasks say which rows each model learns from")
    starting = next((method for method in recipe.methods if recipe.start_of(method) == "source"), None)
    if starting is None or recipe.source_from is not None:
        return
    if recipe.data is None:
        raise RecipeError(
            f"{starting!r} starts from a model that is trained on data (start: source), but the recipe names no data"
        )
    unknown_data = recipe.teacher_from is not None and recipe.teacher_data is None
    if recipe.teacher_training is None or unknown_data:
        missing = "teacher_data" if unknown_data else "teacher_training"
        raise RecipeError(
            f"{starting!r} starts from its own architecture, trained as the teacher is and on the teacher's data "
            f"(start: source); give the recipe {missing}"
        )


def transfer_notes(recipe: Recipe, dataset: Dataset | None, teacher_dataset: Dataset | None) -> list[str]:
    """What a reader of the results must know about the data that each model learned from.

    Args:
        recipe: the experiment.
        dataset: the students' data.
        teacher_dataset: the teacher's; the same object if they are the students'.
    """
    notes = []
    if dataset is not None and teacher_dataset is not None and teacher_dataset is not dataset:
        notes.append(
            f"The teacher learned {teacher_dataset.name} and is measured on its test rows, the students learned "
            f"{dataset.name} and are measured on its test rows: the teacher's numbers cannot be compared with theirs."
        )
    if recipe.per_class is not None and dataset is not None:
        notes.append(
            f"Students learned from {recipe.per_class:,} training rows of each class"
            f"{'' if teacher_dataset is not dataset else ', the teacher from all'}. The choice of rows is the same for "
            "all methods of a seed, and differs between seeds."
        )
    starting = [method for method in recipe.methods if recipe.start_of(method) == "source"]
    if starting and teacher_dataset is not None:
        where = f"all training rows of {teacher_dataset.name} with the teacher's settings"
        if recipe.source_from is not None:
            where = f"the data of {recipe.source_from}"
        notes.append(
            f"{' and '.join(starting)} {'starts' if len(starting) == 1 else 'start'} from the student's own "
            f"architecture trained on {where}, which no other student has seen."
        )
    return notes
