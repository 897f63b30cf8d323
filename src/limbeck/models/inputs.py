"""Checking what models are given, in words that say how to mend it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.errors import ModelError

__all__ = ["check_images", "check_numbers", "class_labels", "class_loss", "flat_rows"]


def check_numbers(model: object, name: str, values: Tensor) -> None:
    """Refuse integers where a model computes with real numbers.

    Args:
        model: the model that is given them.
        name: what they are, such as ``"x"``.
        values: any shape.

    Raises:
        ModelError: they are not floating-point numbers.
    """
    if not values.is_floating_point():
        raise ModelError(
            f"{type(model).__name__} computes with floating-point numbers, but {name} is {values.dtype}; convert it, "
            "the bytes of images to [0, 1] by y.float() / 255"
        )


def check_images(model: object, images: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse images of another shape than a model is built for, and bytes.

    Args:
        model: the model that is given them.
        images: shape (batch, channels, height, width).
        shape: what the model is built for: channels, height, width.

    Raises:
        ModelError: they are of another shape, or not floating-point numbers.
    """
    if images.shape[1:] != shape:
        raise ModelError(
            f"{type(model).__name__} is built for images of shape {shape} but got {tuple(images.shape[1:])}; set "
            "image_size and image_channels of the model, or size and channels of the data"
        )
    check_numbers(model, "an image", images)


def flat_rows(model: object, x: Tensor, inputs: int) -> Tensor:
    """Rows of the conditioning input as vectors.

    Args:
        model: the model that is given them.
        x: shape (batch, ...).
        inputs: numbers of a row that the model is built for.

    Returns:
        Shape (batch, inputs).

    Raises:
        ModelError: a row has another number of values, or they are not floating-point numbers.
    """
    found = math.prod(x.shape[1:])
    if found != inputs:
        raise ModelError(f"{type(model).__name__}: a row of x has {found} values, not inputs={inputs}")
    check_numbers(model, "x", x)
    return x.reshape(x.shape[0], inputs)


def class_labels(model: object, labels: Tensor, shape: Sequence[int], classes: int) -> Tensor:
    """Labels as ``cross_entropy`` takes them.

    Args:
        model: the model that is given them.
        labels: class indices, integers of ``shape``; or probabilities of the classes, shape (*shape, classes), as the
            mean of a class is.
        shape: one label for each of these.
        classes: number of classes.

    Returns:
        int64 of ``shape``, or the probabilities.

    Raises:
        ModelError: labels of another shape, that are no integers, or outside 0, ..., classes - 1. On a GPU the range is
            left to torch, since asking would stall it.

    Example:
        >>> class_labels(object(), torch.tensor([0, 3], dtype=torch.int32), (2,), classes=3)
        Traceback (most recent call last):
            ...
        limbeck.errors.ModelError: object has 3 classes, 0 to 2, but labels go from 0 to 3; set its number of classes
    """
    who, shape = type(model).__name__, tuple(shape)
    if labels.is_floating_point() and labels.shape == (*shape, classes):
        return labels
    if labels.is_floating_point() or labels.shape != shape:
        raise ModelError(
            f"{who} needs labels as integers of shape {shape}, not {labels.dtype} of shape {tuple(labels.shape)}; "
            "give the index of each row's class"
        )
    if labels.device.type == "cpu" and len(labels) and not torch.compiler.is_compiling():
        low, high = (int(end) for end in labels.aminmax())
        if low < 0 or high >= classes:
            raise ModelError(
                f"{who} has {classes} classes, 0 to {classes - 1}, but labels go from {low} to {high}; set its number "
                "of classes"
            )
    return labels.long()


def class_loss(model: object, logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the labels in nats, the mean over rows.

    Args:
        model: the classifier.
        logits: shape (batch, classes).
        labels: as for :func:`class_labels`, one a row.

    Raises:
        ModelError: as for :func:`class_labels`.
    """
    return F.cross_entropy(logits, class_labels(model, labels, logits.shape[:1], logits.shape[1]))
