"""Public names, loaded when first used and found again."""

from __future__ import annotations

import functools
from typing import ClassVar

import pytest

import limbeck.models
from limbeck import methods
from limbeck.core.divergence.transport import lp
from limbeck.core.methods.basic import surrogate
from limbeck.engine.evaluations.images.image_evaluation import ImageEvaluation
from limbeck.models.ladder.ladder_vae import LadderVAE
from limbeck.names import public_name
from tests.small_models import Mixed


class Local:
    """Told by no package."""

    parts: ClassVar[list[int]] = []

    class Inner:
        """One more."""


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (LadderVAE, "limbeck.models.LadderVAE"),
        (ImageEvaluation, "limbeck.engine.ImageEvaluation"),
        (lp, "limbeck.core.divergence.lp"),
        (surrogate, "limbeck.core.methods.surrogate"),
        (methods.Ramp, "limbeck.core.schedule.Ramp"),  # as in the keys of finished work
        (Mixed, "tests.small_models.Mixed"),
        (Mixed(4), "tests.small_models.Mixed"),
        (Local.Inner, f"{__name__}.Local.Inner"),
        (functools.partial(lp), "functools.partial"),
        (len, "builtins.len"),
    ],
)
def test_the_shortest_path(thing: object, name: str) -> None:
    assert public_name(thing) == name


def test_another_thing_of_that_name_above_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limbeck.models, "LadderVAE", Local)
    assert public_name(LadderVAE) == "limbeck.models.ladder.ladder_vae.LadderVAE"
