"""How sure a classifier is of single images, and how varied its answers are: the "Inception score"."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.errors import DataError

__all__ = ["inception_score"]


def inception_score(logits: Tensor, *, splits: int = 10, seed: int = 0) -> tuple[float, float]:
    r"""Inception score of images, from a classifier's answers to them.

    .. math:: \exp E_y \, \mathrm{KL}(p(c \mid y) \,\|\, E_y \, p(c \mid y))

    From 1, if all answers are alike, to the number of classes, if each is certain and the classes are equally frequent.
    It looks at no real image, and scores of different classifiers do not compare: name the classifier.

    Args:
        logits: unnormalised log-probabilities of the classes, shape (images, classes).
        splits: parts into which the images are divided, as equal as can be; each has a score of its own.
        seed: fixes which images are in which part.

    Returns:
        Mean and standard deviation of the scores of the parts. The deviation is that of one part.

    Raises:
        DataError: fewer than two images per part, or logits that are not finite or not a matrix.

    References:
        T. Salimans et al., "Improved Techniques for Training GANs", 2016.

    >>> certain = 100 * torch.eye(4).repeat(10, 1)
    >>> round(inception_score(certain, splits=1)[0], 3)
    4.0
    """
    if logits.ndim != 2 or not bool(logits.isfinite().all()):
        raise DataError(f"expected finite logits of shape (images, classes), not {tuple(logits.shape)}.")
    if splits < 1 or len(logits) < 2 * splits:
        raise DataError(f"{len(logits)} images do not make {splits} parts of at least two; draw more or split less.")
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))
    answers = logits.detach().cpu().double().log_softmax(1)[order]
    scores = torch.stack([_score(part) for part in answers.tensor_split(splits)])
    return float(scores.mean()), float(scores.std()) if splits > 1 else 0.0


def _score(answers: Tensor) -> Tensor:
    """The score of one part: log-probabilities of shape (images, classes)."""
    average = answers.exp().mean(0).log()
    # A probability of 0, whose logarithm may be infinite, adds nothing.
    terms = torch.where(answers.exp() > 0, answers.exp() * (answers - average), 0.0)
    return terms.sum(1).mean().exp()
