"""What ``--teacher`` can name: a directory of a saved model, a file of zuko's weights, or a pipeline of diffusers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from limbeck.cli.distilling import keep_weights
from limbeck.cli.pipeline_teacher import diffusion_teacher, is_hub_name, resampled_teacher
from limbeck.cli.zuko_teacher import WEIGHTS, zuko_teacher

if TYPE_CHECKING:
    from limbeck.core.graph import DGM

__all__ = ["Pipeline", "SavedModel", "TeacherKind", "ZukoWeights", "teacher_kind"]


class TeacherKind(ABC):
    """One kind of teacher: how it is told from the others and loaded, and what its student is written as.

    What depends on the model, not on where it comes from, is in :mod:`limbeck.cli.families`.

    Attributes:
        given: the value of ``--teacher``.
    """

    def __init__(self, given: str) -> None:
        self.given = given

    @staticmethod
    @abstractmethod
    def recognises(given: str) -> bool:
        """Whether ``--teacher`` names a teacher of this kind."""

    @abstractmethod
    def load(self, words: Sequence[str]) -> tuple[DGM, list[str]]:
        """Load the teacher.

        Args:
            words: a command line, which may have settings of the teacher: ``--teacher.KEY=VALUE``.

        Returns:
            The model in eval mode, and the words that are not settings of it.

        Raises:
            RecipeError: settings are missing or unknown.
            ModelError: it cannot be loaded.
        """

    def keep(self, student: DGM, folder: Path) -> None:  # noqa: B027 most kinds have nothing to add
        """Write the trained student in the teacher's form too, where that is not the form of this library."""


class ZukoWeights(TeacherKind):
    """A file of weights of one of zuko's flows."""

    @staticmethod
    @override
    def recognises(given: str) -> bool:
        """Whether it is a file."""
        return given.endswith(".safetensors") or Path(given).is_file()

    @override
    def load(self, words: Sequence[str]) -> tuple[DGM, list[str]]:
        """Build the flow that ``--teacher.class`` and the other settings describe, and load its weights."""
        return zuko_teacher(self.given, words)

    @override
    def keep(self, student: DGM, folder: Path) -> None:
        """Write the student's weights under zuko's names."""
        keep_weights(student, folder / WEIGHTS)


class Pipeline(TeacherKind):
    """A diffusion pipeline of diffusers: a directory, or a name on the Hugging Face hub."""

    @staticmethod
    @override
    def recognises(given: str) -> bool:
        """Whether it is such a directory, or can only be a name on the hub."""
        from limbeck.models.diffusion.pipeline import is_pipeline

        return is_pipeline(given) or is_hub_name(given)

    @override
    def load(self, words: Sequence[str]) -> tuple[DGM, list[str]]:
        """Load the pipeline, from the hub if need be, at ``--teacher.steps``."""
        return diffusion_teacher(self.given, words)


class SavedModel(TeacherKind):
    """A directory in which this library saved a model."""

    @staticmethod
    @override
    def recognises(given: str) -> bool:
        """Always, so that the message about a wrong path speaks of saved models."""
        return True

    @override
    def load(self, words: Sequence[str]) -> tuple[DGM, list[str]]:
        """Load the model; a diffusion model at ``--teacher.steps``."""
        from limbeck.core.graph import DGM

        return resampled_teacher(DGM.from_pretrained(self.given), words)


def teacher_kind(given: str) -> TeacherKind:
    """The kind of teacher that ``--teacher`` names."""
    kinds: tuple[type[TeacherKind], ...] = (ZukoWeights, Pipeline, SavedModel)
    return next(kind for kind in kinds if kind.recognises(given))(given)
