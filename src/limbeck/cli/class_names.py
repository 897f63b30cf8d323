"""The names of a student's classes, kept beside it, so that the labels of other images are numbered as it learned."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.errors import RecipeError

if TYPE_CHECKING:
    from limbeck.core.objective import Match
    from limbeck.data import ImageDataset

__all__ = ["CLASSES", "check_labels", "compares_outputs", "keep_classes", "kept_classes", "uses_labels",
           "with_labels_of"]  # fmt: skip

CLASSES = "classes.json"
"""Where the names are written, in the order of the outputs."""

_OUTPUTS = ("logits", "y")
_SHOWN = 6  # names in a message


def keep_classes(names: Sequence[str], folder: Path) -> None:
    """Write the names of a student's classes, in the order of its outputs, into its directory."""
    from limbeck.files import atomic_write_text

    atomic_write_text(folder / CLASSES, json.dumps(list(names), indent=2) + "\n")


def kept_classes(directory: str | Path) -> list[str] | None:
    """The names of a saved model's classes, in the order of its outputs; ``None`` if they were not kept."""
    try:
        found = json.loads((Path(directory) / CLASSES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return [str(name) for name in found] if isinstance(found, list) else None


def with_labels_of(names: Sequence[str] | None, dataset: ImageDataset, who: str) -> ImageDataset:
    """Images whose labels are numbered as a model's outputs are: by the names of the classes.

    A folder that lacks a class would otherwise shift the numbers of all that follow.

    Args:
        names: of the model's classes; ``None`` where they are not known, which leaves the data as they are.
        dataset: images whose classes are among these.
        who: what to call the model in messages.

    Raises:
        RecipeError: the data have other classes.
    """
    import torch

    if names is None or tuple(names) == dataset.classes:
        return dataset
    further = [name for name in dataset.classes if name not in names]
    if further:
        raise RecipeError(
            f"{dataset.name} has the classes {_listed(further)}, which {who} was not trained for; it knows "
            f"{_listed(names)}. Rename or remove these folders"
        )
    numbers = torch.tensor([list(names).index(name) for name in dataset.classes])
    train, validation, test = (
        dataclasses.replace(split, labels=numbers[split.labels])
        for split in (dataset.train, dataset.validation, dataset.test)
    )
    return dataclasses.replace(dataset, train=train, validation=validation, test=test, classes=tuple(names))


def compares_outputs(matches: Sequence[Match]) -> bool:
    """Whether a match compares the predictions of two classifiers, so that their classes must be the same."""
    for match in matches:
        teacher = str(match.teacher).partition("&")[0]  # beside it are labels, for dkd
        if teacher in _OUTPUTS and (teacher if match.student is None else match.student) in _OUTPUTS:
            return True
    return False


def uses_labels(matches: Sequence[Match], task_weight: float) -> bool:
    """Whether a student learns from labels: by the cross-entropy, or beside the teacher's predictions (``dkd``)."""
    return bool(task_weight) or any("|" in str(match.teacher) for match in matches)


def check_labels(outputs: int | None, dataset: ImageDataset) -> None:
    """Check that the labels a student learns from number the same classes as its outputs.

    Args:
        outputs: number of the student's classes.
        dataset: what it learns from.

    Raises:
        RecipeError: the student has more outputs than there are classes, so that a label may mean another output.
    """
    count = len(dataset.classes)
    if outputs is not None and outputs > count:
        raise RecipeError(
            f"the student has {outputs} classes, but {dataset.name} has {count} ({_listed(dataset.classes)}), so its "
            "labels may be of other classes than the outputs; add the folders of the missing classes, give the "
            f"student {count} classes, or learn without labels: --task_weight=0 and no dkd"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])])
