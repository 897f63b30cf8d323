"""A finished model as others learn from it: made fast, recorded, or with its outputs kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.engine.caching.filling import cached
from limbeck.engine.caching.teacher_cache import CachedTeacher
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.experiments.tasks import Task
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.pairs.record import record
from limbeck.engine.pairs.recorded import RecordedTeacher
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.options import Training
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed
from limbeck.engine.teachers.prepare import prepare

__all__ = ["StandIns", "Teacher", "cache_steps", "taught"]


@dataclass(frozen=True)
class Teacher:
    """A finished model that others learn from.

    Attributes:
        model: as it was trained.
        prepared: the same, made fast for running.
        key: its fingerprint.
    """

    model: DGM
    prepared: DGM
    key: str


def taught(model: DGM, task: Task) -> Teacher:
    """A finished model as the next ones learn from it.

    Args:
        model: it stays as it is.
        task: what it learned.
    """
    example = None if task.rows is None else Batches(task.rows, 2, 0)(0).x
    return Teacher(model, prepare(model, example), model_key(model))


def cache_steps(recipe: Recipe, seen: Sequence[Batch | None]) -> int:
    """Runs of a teacher whose outputs are to be kept.

    Args:
        recipe: the experiment.
        seen: the rows that the students of each seed learn from.
    """
    if recipe.teacher_cache is None or not any(b.objective.needs_teacher for b in recipe.methods.values()):
        return 0
    distinct = {id(rows): rows for rows in seen if rows is not None}
    training = recipe.training
    return sum(Batches(rows, training.batch_size, 0, training.augmentation).total for rows in distinct.values())


class StandIns:
    """What takes a teacher's place in a run, each made once.

    Args:
        recipe: the experiment.
        cache: where recorded pairs and outputs are kept between runs.
        progress: told what is made.
    """

    def __init__(self, recipe: Recipe, cache: Path, progress: Progress) -> None:
        self._recipe = recipe
        self._cache = cache
        self._progress = progress
        self._recorded: dict[str, RecordedTeacher] = {}
        self._cached: dict[tuple[str, int], tuple[Batch, CachedTeacher]] = {}

    def recorded(self, teacher: Teacher, pairs: Pairs, rows: Batch | None) -> RecordedTeacher:
        """A teacher that replays its pairs; those that are not there yet are made now.

        Args:
            teacher: the real one.
            pairs: how many.
            rows: whose conditioning inputs it is asked for, if it has any.
        """
        found = self._recorded.get(teacher.key)
        if found is None:
            found = record(
                teacher.prepared, pairs, self._cache / "pairs", seed=derive_seed(self._recipe.seed, "pairs"),
                inputs=None if rows is None else rows.x, identity=teacher.key, trainer=self._recipe.trainer,
                progress=self._progress,
            )  # fmt: skip
            self._recorded[teacher.key] = found
        return found

    def cached(self, teacher: Teacher, rows: Batch, training: Training) -> CachedTeacher:
        """A teacher that knows its outputs for rows; those that are not there yet are computed now.

        Of the hidden features those are kept that any method of the recipe compares.

        Args:
            teacher: the real one.
            rows: what students see.
            training: theirs.
        """
        assert self._recipe.teacher_cache is not None
        # Rows are told apart by identity: they are the same object for all methods of a seed, and this holds on to it.
        known = self._cached.get((teacher.key, id(rows)))
        if known is None:
            objectives = [baseline.objective for baseline in self._recipe.methods.values()]
            found = cached(
                teacher.prepared, self._recipe.teacher_cache, objectives, rows, self._cache / "teachers",
                training=training, trainer=self._recipe.trainer, progress=self._progress,
            )  # fmt: skip
            known = self._cached[teacher.key, id(rows)] = (rows, found)
        return known[1]
