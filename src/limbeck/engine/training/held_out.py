"""What a validation measures: a student's own loss on rows of data, or its objective on unseen draws of the teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.engine.pairs.recorded_teacher import RecordedTeacher
from limbeck.engine.settings.batches import chunks
from limbeck.engine.training.module import StudentModule
from limbeck.errors import DataError

__all__ = ["HeldOut", "HeldOutPairs", "HeldOutRows", "NewDraws", "unseen_pairs"]

# Rows measured at once, in batches of the training: no gradients are kept, so this takes less memory than a step.
_BATCHES = 4
# New draws of a teacher that was not recorded, in batches of the training: it runs for all of them in each validation.
_DRAWN_BATCHES = 16


class HeldOut(ABC):
    """Rows that a training does not learn, and a loss on them.

    Args:
        name: what to call the rows in a message.
        count: number of rows.
        part_size: rows measured at once.

    Attributes:
        name: what to call the rows in a message.
        count: number of rows.
    """

    def __init__(self, name: str, count: int, part_size: int) -> None:
        self.name, self.count = name, count
        self._part_size = part_size

    def parts(self) -> Iterator[tuple[int, int]]:
        """Number and size of each part that is measured at once."""
        size = self._part_size
        return ((number, min(size, self.count - start)) for number, start in enumerate(range(0, self.count, size)))

    @abstractmethod
    def loss(self, module: StudentModule, number: int, size: int) -> Loss:
        """The loss of the student on one part, whose noise is the same in every validation.

        Args:
            module: has the student and the objective.
            number: number of the part.
            size: rows of the part.
        """


class HeldOutRows(HeldOut):
    """A student's own loss on validation rows of the data.

    Args:
        rows: the rows.
        batch_size: of the training.

    Raises:
        DataError: there are no rows.
    """

    def __init__(self, rows: Batch, batch_size: int) -> None:
        if len(rows) == 0:
            raise DataError("validate_every: the validation split is empty; give it rows, or leave validate_every out")
        super().__init__("validation rows", len(rows), _BATCHES * batch_size)
        self._rows = rows

    @override
    def loss(self, module: StudentModule, number: int, size: int) -> Loss:
        module.reseed("validation", number)
        start = number * self._part_size
        part = slice(start, start + size)
        rows = Batch(self._rows.y[part], None if self._rows.x is None else self._rows.x[part])
        return module.student.loss(module.placed(next(chunks(rows, size))))


class HeldOutPairs(HeldOut):
    """What a training minimises, on recorded pairs that it never replays ([D] App. B), each once.

    Weights that change during a training have their last values, so that all validations measure the same.

    Args:
        pairs: replays these pairs.
        batch_size: of the training.
    """

    def __init__(self, pairs: RecordedTeacher, batch_size: int) -> None:
        super().__init__("unseen pairs", len(pairs), _BATCHES * batch_size)
        self._pairs = pairs

    @override
    def loss(self, module: StudentModule, number: int, size: int) -> Loss:
        module.reseed("unseen", number)
        start = number * self._part_size
        with self._pairs.reading(start, start + size) as x:
            count = size if x is None else None
            found: Loss = module.objective(self._pairs, module.student, batch_size=count, x=x, progress=1.0)
        return found


class NewDraws(HeldOut):
    """What a training minimises, on draws of the teacher from seeds that no training step has.

    Weights that change during a training have their last values, so that all validations measure the same.

    Args:
        teacher: the teacher of the training.
        batch_size: of the training.
    """

    def __init__(self, teacher: DGM, batch_size: int) -> None:
        # No larger parts: the conditioning inputs may be those of a batch of data.
        super().__init__("unseen pairs", _DRAWN_BATCHES * batch_size, batch_size)
        self._teacher = teacher

    @override
    def loss(self, module: StudentModule, number: int, size: int) -> Loss:
        module.reseed("unseen", number)
        x, batches = module.teacher_inputs(size), module.companions.batches
        if x is None and batches is not None:
            x = module.placed(batches(number)).x
        count = size if x is None else None
        found: Loss = module.objective(self._teacher, module.student, batch_size=count, x=x, progress=1.0)
        return found


def unseen_pairs(teacher: DGM, batch_size: int) -> HeldOut:
    """Pairs of a teacher that a training never sees: those that were held out, or new draws if it is not recorded.

    Args:
        teacher: the teacher of the training.
        batch_size: of the training.

    Raises:
        DataError: the teacher is recorded, and no pairs were held out.
    """
    if not isinstance(teacher, RecordedTeacher):
        return NewDraws(teacher, batch_size)
    if teacher.held_out is None:
        raise DataError("validate_every: no recorded pairs are held out; give pairs.held_out")
    return HeldOutPairs(teacher.held_out, batch_size)
