"""What a student learns from: the request is checked, part of the student's key, and carried out when needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.core.stand_in import StandIn, real_model
from limbeck.core.storage import written_config
from limbeck.engine.caching.filling import cached
from limbeck.engine.caching.teacher_cache import TeacherCache, check_repeated
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.pairs.record import record
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.checks import check_objective, check_snapshots
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.stages.fingerprints import describe_tensor, fingerprint
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.objective_description import describe_objective
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed
from limbeck.engine.teachers.prepare import prepare
from limbeck.errors import RecipeError

__all__ = ["Teaching"]


@dataclass(frozen=True)
class Teaching:
    """What a student learns from: a teacher, or pairs or outputs that it makes once, and rows of data.

    Attributes:
        teacher: as it was given.
        objective: what the student minimises.
        training: its optimisation.
        trainer: devices and precision, if they were given.
        seed: of the distillation.
        data: rows of real data, if there are any.
        teacher_inputs: conditioning inputs for the teacher, if they are not those of the data.
        pairs: which pairs the teacher makes once, if any.
        teacher_cache: how its outputs are stored, if they are.
        place: where pairs or outputs are kept; ``None`` if there is no such place.
    """

    teacher: DGM
    objective: Objective
    training: Training
    trainer: TrainerOptions | None
    seed: int
    data: Batch | None
    teacher_inputs: Tensor | None
    pairs: Pairs | None
    teacher_cache: TeacherCache | None
    place: Path | None

    def check(self) -> None:
        """Check that pairs or outputs can be made from what was given.

        Raises:
            RecipeError: they cannot, or there is no place for them; or the objective is none, or nothing that
                snapshots show is learned.
        """
        check_objective(self.objective)
        check_snapshots(self.training.snapshots, [self.objective])
        if self.teacher_cache is not None:
            if self.pairs is not None or self.teacher_inputs is not None:
                raise RecipeError(
                    "teacher_cache is for a teacher that is given the rows of data: not with pairs or teacher_inputs"
                )
            if self.data is None:
                raise RecipeError("teacher_cache: outputs are kept for rows of data; give data")
            check_repeated(self.data.x is not None, self.training.augmentation)
        if (self.pairs is not None or self.teacher_cache is not None) and self.place is None:
            what = "pairs are" if self.pairs is not None else "outputs of the teacher are"
            raise RecipeError(f"{what} kept on disk: give a directory, or cache=, the place for these alone")

    @property
    def _replays(self) -> bool:
        return self.pairs is not None and self.objective.needs_teacher

    @property
    def rows(self) -> Batch | None:
        """The rows that the training sees. Recorded pairs need no more of the data than its conditioning inputs."""
        return None if self._replays and not self.objective.needs_data else self.data

    @property
    def _inputs(self) -> Tensor | None:
        """The conditioning inputs that pairs are recorded with."""
        if self._replays and self.teacher_inputs is None and self.data is not None:
            return self.data.x
        return self.teacher_inputs

    def key(self, student: DGM, validation: Batch | None) -> str:
        """Fingerprint of all that the student's weights depend on.

        Args:
            student: before its training.
            validation: rows to choose the best weights by, if there are any.

        Raises:
            ModelError: the student cannot be saved, or one of the models cannot be told from others.
        """
        written_config(student)  # so that a student that cannot be saved is refused before its training
        chosen_by = None if self.training.validate_every is None else validation
        inputs = self._inputs
        return fingerprint(
            teacher=model_key(real_model(self.teacher)), seed=self.seed, student=model_key(student),
            objective=describe_objective(self.objective), trainer=repr(self.trainer),
            training=self.training.essential(), data=_described(self.rows), validation=_described(chosen_by),
            # Under its earlier name, so that finished students keep their keys.
            asked=None if inputs is None else describe_tensor(inputs), **self._stand_in_key_parts(),
        )  # fmt: skip

    def _stand_in_key_parts(self) -> dict[str, object]:
        """What the student depends on if something takes the teacher's place."""
        parts: dict[str, object] = {} if self.pairs is None else {"pairs": self.pairs.essential()}
        if self.teacher_cache is not None:
            parts |= self.teacher_cache.essential()
        return parts | (self.teacher.key_parts() if isinstance(self.teacher, StandIn) else {})

    def make_teacher(self, progress: Progress) -> DGM:
        """The teacher, prepared for inference, or what takes its place; missing pairs or outputs are made now.

        Args:
            progress: receives what is made.
        """
        found = self.teacher if isinstance(self.teacher, StandIn) else prepare(self.teacher, self._example())
        if self.pairs is not None and self.place is not None:
            return record(
                found, self.pairs, self.place, seed=derive_seed(self.seed, "pairs"), inputs=self._inputs,
                identity=model_key(self.teacher), trainer=self.trainer, progress=progress,
            )  # fmt: skip
        if self.teacher_cache is not None and self.data is not None and self.place is not None:
            return cached(
                found, self.teacher_cache, [self.objective], self.data, self.place, training=self.training,
                trainer=self.trainer, progress=progress,
            )  # fmt: skip
        return found

    def _example(self) -> Tensor | None:
        """Conditioning inputs to prepare the teacher with, shape (rows, ...), if it has any."""
        if self.teacher_inputs is None and self.data is not None:
            return Batches(self.data, 2, self.seed)(0).x
        return self.teacher_inputs


def _described(rows: Batch | None) -> list[object]:
    """Rows of data as plain values for a fingerprint."""
    return [] if rows is None else [None if part is None else describe_tensor(part) for part in (rows.y, rows.x)]
