"""What a validation measures: a student's own loss on rows of data, or its objective on the teacher's unseen draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.engine.pairs.recorded import RecordedTeacher
from limbeck.engine.settings.batches import chunks
from limbeck.engine.training.module import StudentModule
from limbeck.errors import DataError

__all__ = ["UnseenPairs", "ValidationRows", "Watched"]

# Rows at once, in batches of the training: no gradients are kept, so this takes less memory than a step.
_BATCHES = 4
# New draws of a teacher that was not recorded, in batches of the training: it runs for all of them each time.
_DRAWN_BATCHES = 16


class Watched(ABC):
    """Rows that are not learned, and a loss on them.

    Attributes:
        name: what to call them in a message.
        count: how many they are.
    """

    name: str
    count: int

    @abstractmethod
    def parts(self) -> Iterator[tuple[int, int]]:
        """Number and size of each part that is measured at once."""

    @abstractmethod
    def loss(self, module: StudentModule, number: int, size: int) -> Loss:
        """The loss of the student on one part, with the noise that it always has there."""


class ValidationRows(Watched):
    """A student's own loss on rows of data.

    Args:
        rows: the rows.
        batch_size: of the training.

    Raises:
        DataError: there are no rows.
    """

    def __init__(self, rows: Batch, batch_size: int) -> None:
        if len(rows) == 0:
            raise DataError("validate_every: the validation split is empty; give it rows, or leave validate_every out")
        self.name, self.count = "validation rows", len(rows)
        self._rows, self._size = rows, _BATCHES * batch_size

    def parts(self) -> Iterator[tuple[int, int]]:
        """See :class:`Watched`."""
        return _parts(self.count, self._size)

    def loss(self, module: StudentModule, number: int, size: int) -> Loss:
        """See :class:`Watched`."""
        module.reseed("validation", number)
        part = slice(number * self._size, number * self._size + size)
        rows = Batch(self._rows.y[part], None if self._rows.x is None else self._rows.x[part])
        return module.student.loss(module.placed(next(chunks(rows, size))))


class UnseenPairs(Watched):
    """What a training minimises, on draws of the teacher that it never sees ([D] App. B).

    Recorded pairs that were held out, each once; or new draws from seeds of their own. Weights that change during a
    training have their last values, so that all validations measure the same.

    Args:
        teacher: the teacher of the training.
        batch_size: of the training.
    """

    def __init__(self, teacher: DGM, batch_size: int) -> None:
        recorded = isinstance(teacher, RecordedTeacher)
        held_out = teacher.held_out if isinstance(teacher, RecordedTeacher) else None
        if recorded and held_out is None:
            raise DataError("validate_every: no recorded pairs are held out; give pairs.held_out")
        self._teacher, self._held_out = teacher, held_out
        self.name = "unseen pairs"
        self.count = _DRAWN_BATCHES * batch_size if held_out is None else len(held_out)
        # Conditioning inputs of new draws may be those of a batch of data.
        self._size = batch_size if held_out is None else _BATCHES * batch_size

    def parts(self) -> Iterator[tuple[int, int]]:
        """See :class:`Watched`."""
        return _parts(self.count, self._size)

    def loss(self, module: StudentModule, number: int, size: int) -> Loss:
        """See :class:`Watched`."""
        module.reseed("unseen", number)
        objective, student = module.objective, module.student
        if self._held_out is not None:
            start = number * self._size
            with self._held_out.reading(start, start + size) as x:
                found: Loss = objective(self._held_out, student, batch_size=size if x is None else None, x=x)
            return found
        x, batches = module.asked(size), module.companions.batches
        if x is None and batches is not None:
            x = module.placed(batches(number)).x
        drawn: Loss = objective(self._teacher, student, batch_size=size if x is None else None, x=x)
        return drawn


def _parts(count: int, size: int) -> Iterator[tuple[int, int]]:
    return ((number, min(size, count - start)) for number, start in enumerate(range(0, count, size)))
