"""How the outputs of a frozen teacher are kept: plain typed settings, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from limbeck.errors import RecipeError

if TYPE_CHECKING:
    from limbeck.data import Augmentation

__all__ = ["TeacherCache", "check_repeated"]


@dataclass(frozen=True)
class TeacherCache:
    """Outputs of a teacher, computed once for every row that the students see and kept on disk.

    For teachers that are given inputs which repeat, epoch after epoch and method after method: classifiers on rows
    without augmentation, or with a fixed number of augmented views.

    Attributes:
        dtype: how numbers are stored. ``"float32"``: as the teacher computes them, also in double precision, so that
            losses are the same as without a cache. ``"float16"``: rounded, in half the space.
        limit_bytes: a cache that would take more is refused before anything is computed.
    """

    dtype: Literal["float32", "float16"] = "float32"
    limit_bytes: int = 4_000_000_000

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16"):
            raise RecipeError(f"teacher_cache.dtype must be float32 or float16, not {self.dtype!r}")
        if self.limit_bytes < 1:
            raise RecipeError(f"teacher_cache.limit_bytes must be at least 1, not {self.limit_bytes}")

    def essential(self) -> dict[str, object]:
        """What a student depends on; nothing if the outputs are exact."""
        return {} if self.dtype == "float32" else {"teacher_cache": self.dtype}


def check_repeated(given: bool, augmentation: Augmentation | None) -> None:
    """Check that a teacher has inputs to look up by, and that they repeat.

    Args:
        given: whether the models have a conditioning input.
        augmentation: of the students' training.

    Raises:
        RecipeError: there are no inputs, or they do not repeat.
    """
    if not given:
        raise RecipeError(
            "teacher_cache: the models are given nothing to look up by; say which part of the data they are given "
            "(condition), or leave the cache out"
        )
    if augmentation is not None and augmentation.views is None:
        raise RecipeError(
            "teacher_cache: rows are augmented anew each time, so that no output is wanted twice; give "
            "training.augmentation.views, a fixed number of them, or leave the cache out"
        )
