"""How good a classifier's probabilities are: accuracy, log-likelihood, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.errors import DataError

__all__ = ["Reliability", "accuracy", "calibration_error", "mean_nll", "reliability"]


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: predictions sorted into bins by their confidence, the largest probability.

    Attributes:
        edges: borders of the bins, shape (bins + 1,), from 0 to 1.
        share: part of the rows in each bin, shape (bins,).
        confidence: mean confidence in each bin, shape (bins,); NaN in an empty one.
        accuracy: part of the predictions in each bin that are right, shape (bins,); NaN in an empty one.
    """

    edges: Tensor
    share: Tensor
    confidence: Tensor
    accuracy: Tensor


def accuracy(log_probabilities: Tensor, labels: Tensor) -> float:
    """Share of the rows whose most probable class is the right one.

    Args:
        log_probabilities: normalised, shape (rows, classes).
        labels: class indices, int64, shape (rows,).

    Raises:
        DataError: shapes or labels do not fit, a number is NaN, or there are no bins; as for the other measures here.

    >>> accuracy(torch.tensor([[0.9, 0.1], [0.6, 0.4]]).log(), torch.tensor([0, 1]))
    0.5
    """
    _check(log_probabilities, labels)
    return float((log_probabilities.argmax(1) == labels).double().mean())


def mean_nll(log_probabilities: Tensor, labels: Tensor) -> float:
    """Negative log-likelihood of the labels in nats per row, the mean over rows.

    Args:
        log_probabilities: normalised, shape (rows, classes).
        labels: class indices, int64, shape (rows,).

    >>> round(mean_nll(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([1])), 4)
    0.6931
    """
    _check(log_probabilities, labels)
    _check_normalised(log_probabilities)
    return float(F.nll_loss(log_probabilities.detach().double(), labels.long()))


def calibration_error(log_probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    r"""Expected calibration error of the most probable class, with bins of equal width (Guo et al. 2017, Eq. 3).

    .. math:: \sum_b \frac{|B_b|}{n} \, | \mathrm{accuracy}(B_b) - \mathrm{confidence}(B_b) |

    Args:
        log_probabilities: normalised, shape (rows, classes).
        labels: class indices, int64, shape (rows,).
        bins: number of bins; errors with different numbers of bins are not comparable.

    >>> probabilities = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2]])
    >>> round(calibration_error(probabilities.log(), torch.tensor([0, 0, 0, 0, 1])), 4)
    0.0
    """
    diagram = reliability(log_probabilities, labels, bins)
    gaps = (diagram.accuracy - diagram.confidence).abs()
    return float((diagram.share * gaps)[diagram.share > 0].sum())


def reliability(log_probabilities: Tensor, labels: Tensor, bins: int = 15) -> Reliability:
    """Confidence and accuracy in bins of equal width: what :func:`calibration_error` sums, to be drawn.

    Args:
        log_probabilities: normalised, shape (rows, classes).
        labels: class indices, int64, shape (rows,).
        bins: number of bins.

    >>> diagram = reliability(torch.tensor([[0.8, 0.2], [0.3, 0.7]]).log(), torch.tensor([0, 0]), bins=2)
    >>> diagram.share.tolist(), diagram.accuracy.tolist()
    ([0.0, 1.0], [nan, 0.5])
    """
    _check(log_probabilities, labels)
    _check_normalised(log_probabilities)
    if bins < 1:
        raise DataError(f"confidences cannot be sorted into {bins} bins; give at least 1.")
    # Exponentials of rounded logarithms can exceed 1; a confidence of exactly 1 belongs to the last bin.
    confidence, guess = log_probabilities.detach().cpu().double().exp().clamp(max=1.0).max(1)
    index = (confidence * bins).long().clamp(max=bins - 1)
    right = (guess == labels.cpu()).double()
    counts, confidences, hits = (
        torch.bincount(index, weights, minlength=bins) for weights in (torch.ones_like(right), confidence, right)
    )
    edges = torch.linspace(0.0, 1.0, bins + 1, dtype=torch.float64)
    return Reliability(edges, counts / len(labels), confidences / counts, hits / counts)


def _check(log_probabilities: Tensor, labels: Tensor) -> None:
    """Refuse predictions that cannot be scored."""
    if log_probabilities.ndim != 2 or labels.shape != log_probabilities.shape[:1] or not len(labels):
        raise DataError(
            f"predictions have shape {tuple(log_probabilities.shape)} and labels {tuple(labels.shape)}; expected "
            "(rows, classes) and (rows,), with at least one row."
        )
    classes = log_probabilities.shape[1]
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"labels go from {low} to {high}, but the model predicts {classes} classes, 0 to {classes - 1}."
        )
    bad = int(log_probabilities.isnan().any(1).sum())
    if bad:
        raise DataError(f"the predictions of {bad} of {len(labels)} rows are NaN: the model's weights are broken.")


def _check_normalised(log_probabilities: Tensor) -> None:
    """Refuse logits and probabilities, of which likelihood and calibration would be numbers that mean nothing.

    The logarithms of half precision sum to 1 in a digit or two.
    """
    totals = log_probabilities.detach().double().logsumexp(1)
    wrong = int((~(totals.abs() < 0.1)).sum())
    if wrong:
        raise DataError(
            f"the probabilities of {wrong} of {len(totals)} rows do not sum to 1: give their logarithms, "
            "logits.log_softmax(1) or probabilities.log()."
        )
