"""The pictures that evaluations draw beside a model's samples, and what a report says of them."""

from __future__ import annotations

from limbeck.metrics import PictureKind

__all__ = [
    "BESIDE_TEACHER",
    "BETWEEN_NOISES",
    "COOL_SAMPLES",
    "INTERPOLATIONS",
    "LARGER",
    "LIKELIHOODS",
    "NEIGHBOURS",
    "RECONSTRUCTIONS",
]

COOL_SAMPLES = PictureKind(
    "samples_cool",
    "Samples at a lower temperature",
    "The same noise as above, scaled down: more typical and less varied.",
    "samples at a lower temperature of",
)

INTERPOLATIONS = PictureKind(
    "interpolations",
    "Interpolations between test images",
    "Both ends of a row are test images; between them are decoded latents, interpolated without loss of norm.",
    "interpolations between test images by",
)

RECONSTRUCTIONS = PictureKind(
    "reconstructions",
    "Reconstructions of test images",
    "In each pair, the test image is on the left, and the model's reconstruction of it on the right.",
    "test images, each beside its reconstruction by",
)

BESIDE_TEACHER = PictureKind(
    "beside_teacher",
    "Beside the teacher",
    "Not selected. Rows alternate: the teacher's images, and below them the student's from the same noise.",
    "images of the teacher above those of",
)

BETWEEN_NOISES = PictureKind(
    "between_noises",
    "Between two noises",
    "Both ends of a row are images of random noise; between them are images of noise on the arc from one to the "
    "other. A student's rows are below those of the teacher.",
    "images between two noises by",
)

LARGER = PictureKind(
    "larger",
    "Another size than in training",
    "Noise of another size, given to networks that have never seen an image of it. A student's rows are below those "
    "of the teacher.",
    "images of another size by",
)

NEIGHBOURS = PictureKind(
    "neighbours",
    "Nearest training images",
    "On the left an image of the model, then the training images that are nearest to it in feature space.",
    "images and their nearest training images, of",
)

LIKELIHOODS = PictureKind(
    "likelihoods",
    "Where a student knows what the teacher sees",
    "An image, how large the teacher's feature is at each place (mean of its absolute values), and the log-likelihood "
    "of that feature given the student's, at some points of the training; last, for a student without transfer, with a "
    "predictor that was fitted after its training. Red is likely. The maps of a row share one scale of colours, which "
    "the untrained student's map exceeds.",
    "heat maps of the likelihood of the teacher's features, by",
)
"""Drawn by the training, whatever the evaluation (:attr:`limbeck.engine.Training.snapshots`)."""
