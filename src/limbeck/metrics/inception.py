"""How sure a classifier is of single images, and how varied its answers are: the "Inception score"."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from limbeck.errors import DataError

__all__ = ["inception_score"]


class _Given(nn.Module):
    """Stands where torchmetrics expects a classifier: its answers are already there."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits


def inception_score(logits: Tensor, *, splits: int = 10, seed: int = 0) -> tuple[float, float]:
    r"""Inception score of images, from a classifier's answers to them.

    .. math:: \exp E_y \, \mathrm{KL}(p(c \mid y) \,\|\, E_y \, p(c \mid y))

    From 1, if all answers are alike, to the number of classes, if each is certain and the classes are equally frequent.
    It looks at no real image, and scores of different classifiers do not compare: name the classifier.

    Args:
        logits: unnormalised log-probabilities of the classes, shape (images, classes).
        splits: parts into which the images are divided; each has a score of its own.
        seed: fixes which images are in which part; the global random state is left as it was.

    Returns:
        Mean and standard deviation of the scores of the parts. The deviation is that of one part.

    Raises:
        DataError: fewer than two images a part, or logits that are not finite or not a matrix.

    References:
        T. Salimans et al., "Improved Techniques for Training GANs", 2016.

    >>> certain = 100 * torch.eye(4).repeat(10, 1)
    >>> round(inception_score(certain, splits=1)[0], 3)
    4.0
    """
    from torchmetrics.image.inception import InceptionScore

    if logits.ndim != 2 or not bool(logits.isfinite().all()):
        raise DataError(f"expected finite logits of shape (images, classes), not {tuple(logits.shape)}.")
    if splits < 1 or len(logits) < 2 * splits:
        raise DataError(f"{len(logits)} images do not make {splits} parts of at least two; draw more or split less.")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message=".*will save all extracted features.*")
        warnings.filterwarnings("ignore", message=".*degrees of freedom.*")  # of a single part
        torch.default_generator.manual_seed(seed)
        # Not synchronised: under DDP one process measures, and would wait for the others for ever.
        metric = InceptionScore(feature=_Given(), splits=splits, sync_on_compute=False)
        metric.update(logits.detach().cpu().double())
        mean, spread = metric.compute()
    return float(mean), float(spread) if splits > 1 else 0.0
