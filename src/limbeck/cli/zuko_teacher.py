"""A teacher that zuko built and trained: a file of its weights, and options that say how it was built."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from limbeck.cli.words import take_settings
from limbeck.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from limbeck.models import ZukoFlow

__all__ = ["WEIGHTS", "zuko_teacher"]

WEIGHTS = "zuko.safetensors"
"""Where a student's weights are written under zuko's own names, beside the model of this library."""

_PREFIX = "zuko.flows."


def zuko_teacher(path: str, words: Sequence[str]) -> tuple[ZukoFlow, list[str]]:
    """The flow whose weights a file holds.

    Args:
        path: written by ``safetensors.torch.save_file(flow.state_dict(), path)``.
        words: a command line with ``--teacher.class=zuko.flows.NAME`` and ``--teacher.KEY=VALUE`` for every argument
            that the class was given.

    Returns:
        The flow in eval mode, and the words that are not about it.

    Raises:
        RecipeError: class or number of columns is not given, or zuko has no such class.
        ModelError: zuko is missing, or the weights are those of another flow.
    """
    settings, others = take_settings(words, "teacher")
    name = settings.pop("class", None)
    if name is None:
        raise RecipeError(
            f"which flow do the weights in {path} belong to? Give --teacher.class=zuko.flows.MAF or the like, and the "
            "arguments it was built with, as in --teacher.features=6 --teacher.transforms=6"
        )
    if "features" not in settings:
        raise RecipeError("how many columns do the teacher's rows have? Give --teacher.features=NUMBER")
    name = str(name).removeprefix(_PREFIX)
    _check_class(name)
    from limbeck.models import ZukoFlow

    return ZukoFlow.from_weights(path, name, **settings).float(), others


def _check_class(name: str) -> None:
    from limbeck.models.flows.zuko_parts import constructor

    try:
        constructor(name)
    except ModelError as error:
        try:
            import zuko.flows
        except ImportError:
            raise error from None
        near = difflib.get_close_matches(name.lower(), [known.lower() for known in vars(zuko.flows)], n=2)
        meant = [known for known in vars(zuko.flows) if known.lower() in near]
        told = f"; did you mean {' or '.join(_PREFIX + known for known in meant)}?" if meant else ""
        raise RecipeError(f"--teacher.class: {error}{told}") from None
