"""What a sweep has to do and in which order: each model once, teachers before their students, then the points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import joblib

from limbeck.engine.experiments.choosing import candidates
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.experiments.source_start import source_key
from limbeck.engine.experiments.stage_keys import student_key, teacher_key, uses_teacher
from limbeck.engine.stages.fingerprints import fingerprint

__all__ = ["Part", "Point", "plan"]


@dataclass(frozen=True)
class Point:
    """One point of a sweep: an ordinary experiment.

    Attributes:
        name: name of its directory.
        values: one for each axis.
        recipe: the experiment.
        resolved: the recipe with all defaults filled in, as YAML.
        command: the command that runs this point alone.
    """

    name: str
    values: tuple[Any, ...]
    recipe: Recipe
    resolved: str
    command: str


@dataclass(frozen=True)
class Part:
    """One model that one or more points need.

    Attributes:
        point: number of a point that needs it.
        method: its method; ``None`` for a teacher.
        seed: the student's seed.
        steps: optimiser steps.
    """

    point: int
    method: str | None
    seed: int
    steps: int


def plan(points: Sequence[Point]) -> list[list[Part]]:
    """The distinct models of all points in two rounds: first those that need no other, then those that need a teacher.

    Within a round no model waits for another, and the longest come first. Models are the same if the fingerprints of
    their stages agree. Descriptions take the place of what is unknown before anything has run: the teacher's weights
    and the data. A mistake here can only cost time, because the true fingerprints decide what is shared in the end.

    Args:
        points: every point of the grid.
    """
    first: dict[str, Part] = {}
    second: dict[str, Part] = {}
    for number, point in enumerate(points):
        recipe = point.recipe
        rows = fingerprint(data=joblib.hash(recipe.data), target=recipe.target, condition=recipe.condition)
        teacher_data = joblib.hash(recipe.data if recipe.teacher_data is None else recipe.teacher_data)
        teacher_rows = fingerprint(data=teacher_data, target=recipe.target, condition=recipe.condition)
        if recipe.fits_teacher:
            teacher = teacher_key(recipe, teacher_rows)
            first.setdefault(teacher, Part(number, None, recipe.seed, recipe.needed_teacher_training.steps))
        else:
            teacher = fingerprint(path=recipe.teacher_from, class_=type(recipe.teacher).__qualname__,
                                  config=recipe.teacher.config, seed=recipe.seed)  # fmt: skip
        for seed in range(recipe.seed, recipe.seed + recipe.seeds):
            for method in recipe.methods:
                trained = 1 + len(candidates(recipe.methods[method].choices))
                part = Part(number, method, seed, trained * recipe.training_of(method).steps)
                later = uses_teacher(recipe, method) and recipe.fits_teacher
                key = student_key(recipe, method, seed, teacher, rows, source_key(recipe, method, teacher_rows))
                (second if later else first).setdefault(key, part)
    return [sorted(found.values(), key=lambda part: -part.steps) for found in (first, second)]
