"""The pictures of a report that are no samples: what they show, in words, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.report.runs import Model, Picture

__all__ = ["PictureGroup", "picture_groups"]

_OTHERS = {  # file to title, sentence, and what the pictures are of
    "beside_teacher": (
        "Beside the teacher",
        "Uncurated. Rows by turns: the teacher's images, and below each of them the student's of the same noise.",
        "images of the teacher above those of",
    ),
    "between_noises": (
        "Between two noises",
        "Both ends of a row are images of random noise; between them lies noise of the same norm. A student's rows are "
        "below those of the teacher.",
        "images between two noises by",
    ),
    "larger": (
        "Another size than in training",
        "Noise of another size, given to networks that have never seen an image of it. A student's rows are below "
        "those of the teacher.",
        "images of another size by",
    ),
    "neighbours": (
        "Nearest training images",
        "On the left an image of the model, then the training images that are nearest to it in feature space.",
        "images and their nearest training images, of",
    ),
    "likelihoods": (
        "Where a student knows what the teacher sees",
        "An image, how large the teacher's feature is at each place (mean of its absolute values), and the "
        "log-likelihood of that feature given the student's, at some points of the training; last, for a student "
        "without transfer, to which the predictor was fitted when it was trained. Red is likely. The colours of a row "
        "are common to its maps, of which the untrained student's runs off the scale.",
        "heat maps of the likelihood of the teacher's features, by",
    ),
}


@dataclass(frozen=True)
class PictureGroup:
    """Pictures of another kind than samples, one a method: heading, sentence, and what the pictures are of."""

    title: str
    sentence: str
    what: str
    pictures: list[tuple[str, Model, Picture | None]]


def picture_groups(models: Sequence[tuple[str, Model]]) -> list[PictureGroup]:
    """The other kinds of pictures, those that any model has."""
    found = [
        PictureGroup(
            "Samples at a lower temperature",
            "The same noise as above, scaled down: more typical and less varied.",
            "samples at a lower temperature of",
            [(method, model, model.cool) for method, model in models if model.cool],
        ),
        PictureGroup(
            "Interpolations between test images",
            "Both ends of a row are test images; between them are latents of the same norm, decoded.",
            "interpolations between test images by",
            [(method, model, model.interpolations) for method, model in models if model.interpolations],
        ),
        PictureGroup(
            "Reconstructions of test images",
            "In each pair the image is on the left, and on the right what the model makes of its own code of it.",
            "test images, each beside its reconstruction by",
            [(method, model, model.reconstructions) for method, model in models if model.reconstructions],
        ),
        *(
            PictureGroup(
                title,
                sentence,
                what,
                [(method, model, model.others.get(name)) for method, model in models if name in model.others],
            )
            for name, (title, sentence, what) in _OTHERS.items()
        ),
    ]
    return [group for group in found if group.pictures]
