"""What takes the place of a teacher in a run: recorded pairs of noise and result, or stored outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limbeck.core.loss import Batch
from limbeck.engine.caching.cached_teacher import CachedTeacher
from limbeck.engine.caching.filling import cached
from limbeck.engine.caching.teacher_cache import TeacherCache
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.experiments.teacher import Teacher
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.pairs.record import record
from limbeck.engine.pairs.recorded_teacher import RecordedTeacher
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.options import Training
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed

__all__ = ["StandIns", "cache_steps"]


def cache_steps(recipe: Recipe, seen: Sequence[Batch | None]) -> int:
    """The number of runs of a teacher whose outputs are stored; 0 if nothing is stored.

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
    """Makes what takes a teacher's place in a run, each once.

    Args:
        recipe: the experiment.
        cache: where recorded pairs and stored outputs are kept between runs.
        progress: receives what is made.
    """

    def __init__(self, recipe: Recipe, cache: Path, progress: Progress) -> None:
        self._recipe = recipe
        self._cache = cache
        self._progress = progress
        self._recorded: dict[str, RecordedTeacher] = {}
        self._cached: dict[tuple[str, int], tuple[Batch, CachedTeacher]] = {}

    def recorded(self, teacher: Teacher, pairs: Pairs, rows: Batch | None) -> RecordedTeacher:
        """A teacher that replays its recorded pairs; missing pairs are made now.

        Args:
            teacher: the real one.
            pairs: how many pairs, and how they are stored.
            rows: rows whose conditioning inputs the teacher gets, if it has any.
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

    def cached(self, teacher: Teacher, settings: TeacherCache, rows: Batch, training: Training) -> CachedTeacher:
        """A teacher that reads its outputs for known rows from disk; missing outputs are computed now.

        Of the hidden features, those that any method of the recipe compares are stored.

        Args:
            teacher: the real one.
            settings: how outputs are stored.
            rows: what the students see.
            training: the students' optimisation.
        """
        # Rows are identified by their object: all methods of a seed share it, and the entry keeps it alive.
        known = self._cached.get((teacher.key, id(rows)))
        if known is None:
            objectives = [baseline.objective for baseline in self._recipe.methods.values()]
            found = cached(
                teacher.prepared, settings, objectives, rows, self._cache / "teachers", training=training,
                trainer=self._recipe.trainer, progress=self._progress,
            )  # fmt: skip
            known = self._cached[teacher.key, id(rows)] = (rows, found)
        return known[1]
