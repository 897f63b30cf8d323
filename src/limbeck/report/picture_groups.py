"""The pictures of a report other than samples: what they show, in words, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.metrics.results import PictureKind
from limbeck.report.runs import Model, Picture

__all__ = ["PictureGroup", "picture_groups"]


@dataclass(frozen=True)
class PictureGroup:
    """Pictures of another kind than samples, one per method: heading, sentence, and what the pictures are of."""

    title: str
    sentence: str
    what: str
    pictures: list[tuple[str, Model, Picture | None]]


def picture_groups(kinds: Sequence[PictureKind], models: Sequence[tuple[str, Model]]) -> list[PictureGroup]:
    """The other kinds of pictures, those that any model has.

    Args:
        kinds: what there may be, in the order of the page.
        models: method and model.
    """
    found = [
        PictureGroup(
            kind.title,
            kind.sentence,
            kind.what,
            [(method, model, model.others.get(kind.name)) for method, model in models if kind.name in model.others],
        )
        for kind in kinds
    ]
    return [group for group in found if group.pictures]
