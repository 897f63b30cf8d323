"""Features of whole drawings, by hand, and the predictor behind the learned ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from limbeck.errors import DataError
from limbeck.metrics import DRAWING_FEATURES, StrokePredictor, drawing_features, drawing_lengths, standardised


def rows(*points: tuple[float, float, int, int], length: int = 8) -> Tensor:
    strokes = torch.zeros(1, length, 4)
    strokes[0, : len(points)] = torch.tensor(points)
    return strokes


def named(strokes: Tensor) -> dict[str, float]:
    return dict(zip(DRAWING_FEATURES, drawing_features(strokes)[0].tolist(), strict=True))


def test_a_square_and_a_dot() -> None:
    square = rows((5, 5, 0, 0), (10, 0, 0, 0), (0, 10, 0, 0), (-10, 0, 0, 0), (0, -10, 1, 0), (30, 40, 1, 1))
    values = named(square)
    assert values["points"] == 6
    assert values["strokes"] == 2
    assert values["ink"] == 40
    assert values["air"] == 50
    assert (values["width"], values["height"]) == (30, 40)
    assert values["turning"] == pytest.approx(1.5 * math.pi)  # not at the lift
    assert values["closing"] == 50


def test_what_does_not_count() -> None:
    plain = rows((1, 1, 0, 0), (3, 4, 0, 1))
    moved, longer = rows((90, -7, 0, 0), (3, 4, 0, 1)), rows((1, 1, 0, 0), (3, 4, 0, 1), length=20)
    garbage = plain.clone()
    garbage[:, 2:] = 99.0
    for other in (moved, longer, garbage):
        assert torch.equal(drawing_features(plain), drawing_features(other))
    assert named(plain)["strokes"] == 1  # the end closes it


def test_turning_does_not_depend_on_size_or_direction() -> None:
    corner = rows((0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 1, 1))
    for scale in (-3.0, 0.1):
        scaled = corner.clone()
        scaled[..., :2] *= scale
        assert named(scaled)["turning"] == pytest.approx(math.pi / 4, rel=1e-6)
        assert named(scaled)["ink"] == pytest.approx(abs(scale) * (1 + math.sqrt(2)), rel=1e-6)


def test_drawings_without_an_end_have_all_points() -> None:
    assert drawing_lengths(torch.zeros(2, 7, 4)).tolist() == [7, 7]
    assert drawing_lengths(rows((0, 0, 0, 0), (1, 1, 1, 1))).tolist() == [2]


def test_standardised_features_have_the_moments_of_the_reference() -> None:
    reference = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).double() * 5 + 2
    reference[:, 2] = 7.0
    scaled = standardised(reference, reference)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(3).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]).double())
    # In single precision the mean of equal numbers is rounded, so that they seem to differ from it.
    constant = torch.full((1000, 1), 0.1)
    torch.testing.assert_close(standardised(constant, constant), torch.zeros(1000, 1), atol=1e-6, rtol=0)


def zigzags(count: int, seed: int) -> Tensor:
    """Right, left, right, ...: the next offset is told by the last."""
    generator = torch.Generator().manual_seed(seed)
    strokes = torch.zeros(count, 10, 4)
    sign = torch.where(torch.rand(count, 1, generator=generator) < 0.5, -1.0, 1.0)
    strokes[..., 0] = sign * torch.tensor([1.0, -1.0] * 5) + 0.1 * torch.randn(count, 10, generator=generator)
    strokes[:, -1, 3] = 1.0
    return strokes


def test_the_predictor_learns_what_comes_next() -> None:
    torch.manual_seed(0)
    network = StrokePredictor((0.0, 0.0), (1.0, 1.0), width=8)
    optimizer = torch.optim.Adam(network.parameters(), 0.03)
    before = network.loss(zigzags(64, 0)).item()
    for step in range(60):
        optimizer.zero_grad()
        network.loss(zigzags(64, step)).backward()
        optimizer.step()
    assert network.loss(zigzags(64, 99)).item() < 0.3 * before
    features = network(zigzags(5, 0))
    assert features.shape == (5, 8)
    garbage = torch.cat([zigzags(5, 0), torch.full((5, 4, 4), 9.0)], 1)
    torch.testing.assert_close(network(garbage), features)
    assert network.loss(garbage).item() == pytest.approx(network.loss(zigzags(5, 0)).item(), rel=1e-5)


def test_refusals() -> None:
    with pytest.raises(DataError, match=r"expected \(rows, length, 4\)"):
        drawing_features(torch.zeros(3, 5, 3))
    with pytest.raises(DataError, match=r"NaN or infinite"):
        drawing_features(rows((math.inf, 0, 0, 0)))
