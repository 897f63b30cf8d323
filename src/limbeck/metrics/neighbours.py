"""Nearest neighbours in feature space, and whether a model's images lie nearer to its training images than new ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.errors import DataError

__all__ = ["Closeness", "closeness", "nearest"]

_ROWS = 1000  # distances to all others at a time


@dataclass(frozen=True)
class Closeness:
    """How near generated images lie to training images, measured against real images that nobody trained on.

    Attributes:
        ratio: median distance of a generated image to its nearest training image, over the same of held-out images.
        closer: share of the generated images that lie nearer to a training image than 99 % of the held-out ones do.
    """

    ratio: float
    closer: float


def nearest(features: Tensor, among: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
    """The nearest rows of another set, by Euclidean distance.

    Args:
        features: shape (rows, features).
        among: shape (others, features).
        count: neighbours of each row.

    Returns:
        Distances, ascending, and row numbers in ``among``; both of shape (rows, count).

    Raises:
        DataError: the sets do not fit, have rows that are not finite, or the other one has fewer rows than neighbours
            are asked for.

    >>> nearest(torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [7.0]]))[1].flatten()
    tensor([0, 1])
    """
    if features.ndim != 2 or among.ndim != 2 or features.shape[1] != among.shape[1]:
        raise DataError(f"features have shapes {tuple(features.shape)} and {tuple(among.shape)}; they do not fit.")
    if not 1 <= count <= len(among):
        raise DataError(f"{count} neighbours cannot be found among {len(among)} rows.")
    _check_finite(features, "rows of features")
    _check_finite(among, "rows of features")
    others = among.double()
    centre = others.mean(0)  # distances do not depend on the origin, but the rounding of the fast method does
    others = others - centre
    found = []
    for part in torch.split(features.double() - centre, _ROWS):
        rows = torch.cdist(part, others, compute_mode="use_mm_for_euclid_dist").topk(count, largest=False).indices
        # Once more and exactly: the fast method finds a small distance between a row and itself.
        ordered, order = (part[:, None] - others[rows]).norm(dim=2).sort()
        found.append((ordered, rows.gather(1, order)))
    return torch.cat([distances for distances, _ in found]), torch.cat([rows for _, rows in found])


def closeness(generated: Tensor, held_out: Tensor) -> Closeness:
    """Compare distances to the nearest training image.

    A model that has learned the law of the data draws images as near as held-out ones are: a ratio of 1, and a share of
    1 %. One that repeats its training images is far nearer. To some degree, so is one whose images are more typical
    than real ones, for instance blurred; the pictures of the neighbours show which it is.

    Args:
        generated: distance of each generated image to its nearest training image, shape (images,).
        held_out: that of each held-out image, shape (others,).

    Raises:
        DataError: one of them is empty or not finite.

    >>> closeness(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])).ratio
    1.0
    """
    if not len(generated) or not len(held_out):
        raise DataError("distances of generated and of held-out images are needed.")
    _check_finite(generated, "distances of generated images")
    _check_finite(held_out, "distances of held-out images")
    generated, held_out = generated.double(), held_out.double()
    middle = held_out.median()
    return Closeness(
        float(generated.median() / middle) if middle > 0 else float("nan"),
        float((generated < held_out.quantile(0.01)).double().mean()),
    )


def _check_finite(values: Tensor, what: str) -> None:
    """Of a comparison with NaN nothing is smaller, which would read as: copies nothing."""
    broken = ~values.isfinite()
    wrong = int((broken.any(1) if broken.ndim > 1 else broken).sum())
    if wrong:
        raise DataError(f"{wrong} of {len(values)} {what} are NaN or infinite; the images or the model are broken.")
