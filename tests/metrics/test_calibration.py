"""Measures of classifiers against sums written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import DataError
from limbeck.metrics import accuracy, calibration_error, mean_nll, reliability


def predictions(rows: int = 400, classes: int = 7, sharpness: float = 2.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    labels = torch.where(
        torch.rand(rows, generator=generator) < 0.6,
        logits.argmax(1),
        torch.randint(classes, (rows,), generator=generator),
    )
    return torch.log_softmax(logits, 1), labels


def by_hand(found: Tensor, labels: Tensor, bins: int) -> tuple[float, list[int]]:
    """The calibration error of Guo et al. and the number of rows in each bin, one row at a time."""
    inside: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for row, label in zip(found.exp().tolist(), labels.tolist(), strict=True):
        confidence = max(row)
        inside[min(int(confidence * bins), bins - 1)].append((confidence, row.index(confidence) == label))
    error = 0.0
    for rows in inside:
        if rows:
            confidence = sum(c for c, _ in rows) / len(rows)
            error += len(rows) / len(labels) * abs(confidence - sum(right for _, right in rows) / len(rows))
    return error, [len(rows) for rows in inside]


@given(st.integers(2, 12), st.integers(1, 60), st.floats(0.1, 6.0), st.integers(0, 10_000), st.integers(1, 25))
@settings(max_examples=50, deadline=None)
def test_calibration_error_and_diagram(classes: int, rows: int, sharpness: float, seed: int, bins: int) -> None:
    found, labels = predictions(rows, classes, sharpness, seed)
    expected, counts = by_hand(found, labels, bins)
    assert calibration_error(found, labels, bins) == pytest.approx(expected, abs=1e-6)
    diagram = reliability(found, labels, bins)
    assert diagram.edges.tolist() == pytest.approx([k / bins for k in range(bins + 1)])
    assert (len(labels) * diagram.share).round().long().tolist() == counts
    gaps = (diagram.share * (diagram.accuracy - diagram.confidence).abs()).nan_to_num(0.0)
    assert gaps.sum().item() == pytest.approx(expected, abs=1e-6)
    assert diagram.accuracy.isnan().tolist() == [count == 0 for count in counts]


def test_accuracy_and_nll() -> None:
    found, labels = predictions()
    right = [max(range(7), key=row.__getitem__) == label for row, label in zip(found.tolist(), labels.tolist())]
    assert 0.5 < sum(right) / 400 < 0.8
    assert accuracy(found, labels) == pytest.approx(sum(right) / 400)
    expected = -sum(row[label] for row, label in zip(found.tolist(), labels.tolist())) / 400
    assert mean_nll(found, labels) == pytest.approx(expected, rel=1e-12)


def test_rare_classes_count_by_their_rows() -> None:
    """The mean over rows, not over classes: 9 of 10 rows of one class are right, the row of the other is not."""
    found = torch.tensor([[0.9, 0.1]]).log().repeat(10, 1)
    assert accuracy(found, torch.tensor([0] * 9 + [1])) == pytest.approx(0.9)


def test_certainty() -> None:
    """A probability of exactly 0 is allowed, and costs infinitely much if it was the label."""
    found = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]])
    assert mean_nll(found, torch.tensor([0, 1])) == 0.0
    assert calibration_error(found, torch.tensor([0, 1])) == 0.0
    assert mean_nll(found, torch.tensor([0, 0])) == math.inf
    assert calibration_error(found, torch.tensor([1, 0])) == 1.0


def test_a_certain_prediction_is_in_the_last_bin() -> None:
    """Confidences of 0.95, never right, and of 1, always right, share a bin of ten: their gaps cancel in part."""
    found = torch.tensor([[0.95, 0.05], [1.0, 0.0]], dtype=torch.float64).log()
    labels = torch.tensor([1, 0])
    assert reliability(found, labels, 10).share[-1] == 1.0
    assert calibration_error(found, labels, 10) == pytest.approx(0.475)


def test_predictions_with_gradients_and_of_one_class() -> None:
    found, labels = torch.zeros(3, 1, requires_grad=True), torch.zeros(3, dtype=torch.long)
    assert reliability(found, labels, 1).confidence.tolist() == [1.0]
    assert [accuracy(found, labels), mean_nll(found, labels), calibration_error(found, labels)] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("measure", [calibration_error, reliability])
def test_no_bins(measure) -> None:
    with pytest.raises(DataError, match="into 0 bins"):
        measure(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long), bins=0)


def test_a_calibrated_classifier() -> None:
    """Labels drawn from the predictions: the error is what chance leaves, far below that of sharpened predictions."""
    found, _ = predictions(20_000, 4, 1.5)
    labels = torch.distributions.Categorical(logits=found).sample()
    sharp = torch.log_softmax(2.0 * found, 1)
    assert calibration_error(found, labels) < 0.02
    assert calibration_error(sharp, labels) > 0.1
    assert mean_nll(found, labels) < mean_nll(sharp, labels)


@pytest.mark.parametrize("measure", [accuracy, mean_nll, calibration_error, reliability])
@pytest.mark.parametrize(
    ("found", "labels", "message"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.long), r"expected \(rows, classes\)"),
        (torch.zeros(3, 2), torch.zeros(4, dtype=torch.long), r"\(3, 2\) and labels \(4,\)"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), "at least one row"),
        (torch.zeros(2, 2), torch.tensor([0, 2]), "from 0 to 2, but the model predicts 2 classes"),
        (torch.zeros(2, 2), torch.tensor([-1, 0]), "from -1 to 0"),
        (torch.tensor([[math.nan, 0.0], [0.0, 0.0]]), torch.tensor([0, 0]), "1 of 2 rows are NaN"),
    ],
)
def test_what_cannot_be_measured(measure, found: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        measure(found, labels)


@pytest.mark.parametrize("measure", [mean_nll, calibration_error, reliability])
def test_probabilities_and_logits_are_no_log_probabilities(measure) -> None:
    found, labels = predictions()
    for other in (found.exp(), found + 1.0, 2.0 * found):
        with pytest.raises(DataError, match=r"do not sum to 1: .*log_softmax"):
            measure(other, labels)
    assert measure(found.bfloat16(), labels.int()) is not None  # rounded to two digits, they are what they are
