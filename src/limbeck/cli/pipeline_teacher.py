"""A diffusion teacher on the command line: a pipeline of diffusers or a saved model, with ``--teacher.steps``."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.cli.words import take_settings
from limbeck.errors import RecipeError

if TYPE_CHECKING:
    from limbeck.core.graph import DGM
    from limbeck.models import DDIM

__all__ = ["diffusion_teacher", "is_hub_name", "resampled_teacher"]

_STEPS = 50  # of the teacher: diffusers' own default, and nearly as good as more ([D] used 50 and 100)


def is_hub_name(name: str) -> bool:
    """Whether ``--teacher`` can only be the name of a pipeline on the hub: one slash, and nothing of that name here."""
    owner, slash, rest = name.partition("/")
    return bool(slash and owner.strip(".~") and rest and "/" not in rest) and not Path(name).exists()


def diffusion_teacher(given: str, words: Sequence[str]) -> tuple[DDIM, list[str]]:
    """A teacher from a pipeline.

    Args:
        given: directory of the pipeline, or its name on the hub.
        words: a command line, which may have ``--teacher.steps=100``, ``--teacher.spacing=leading`` and other arguments
            of :meth:`limbeck.models.DDIM.from_pipeline`.

    Returns:
        The model in eval mode, and the words that are not about it.
    """
    from limbeck.models import DDIM

    settings, others = take_settings(words, "teacher")
    _check(settings)
    if not settings.keys() & {"steps", "timesteps", "start"} and not _has_own_times(given):
        settings["steps"] = _STEPS
    if "timesteps" not in settings and "steps" in settings:
        # Its times then are noise at first, and contain those of students whose number of steps divides theirs.
        settings.setdefault("spacing", "trailing")
    return DDIM.from_pipeline(given, **settings), others


def resampled_teacher(teacher: DGM, words: Sequence[str]) -> tuple[DGM, list[str]]:
    """A teacher that this library saved, at the times that ``--teacher.steps=100`` and similar settings ask for.

    Args:
        teacher: any model; only diffusion models have such settings.
        words: the command line.

    Returns:
        The model in eval mode, and the words that are not about it.
    """
    from limbeck.models import DDIM

    settings, others = take_settings(words, "teacher")
    if not settings:
        return teacher, others
    if not isinstance(teacher, DDIM):
        raise RecipeError(
            f"--teacher.{next(iter(settings))}: a saved {type(teacher).__name__} is used as it is; of teachers, "
            "only diffusion models and files of weights take settings"
        )
    _check(settings)
    if "steps" in settings:
        settings.setdefault("spacing", "trailing")
    return teacher.resampled(**settings).eval(), others


def _has_own_times(given: str) -> bool:
    """Whether a pipeline was written by this library, with its times."""
    from limbeck.models.diffusion.pipeline import read_pipeline

    return bool(read_pipeline(given).own) if Path(given).is_dir() else False


def _check(settings: dict[str, Any]) -> None:
    from limbeck.models import DDIM

    known = [*inspect.signature(DDIM).parameters]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            told = f"; did you mean --teacher.{near[0]}?" if near else f"; there are {', '.join(known)}"
            raise RecipeError(f"--teacher.{name}: a diffusion teacher has no such setting{told}")
