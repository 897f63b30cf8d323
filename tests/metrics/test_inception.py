"""The Inception score against its formula, and its two ends."""

import math

import pytest
import torch

from limbeck.errors import DataError
from limbeck.metrics import inception_score


def test_the_formula():
    logits = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)).double() * 3
    answers = logits.softmax(1)
    divergence = (answers * (answers / answers.mean(0)).log()).sum(1).mean()
    score, spread = inception_score(logits, splits=1)
    assert score == pytest.approx(math.exp(divergence), rel=1e-6)
    assert spread == 0.0


def test_from_one_to_the_number_of_classes():
    certain = 200 * torch.eye(4).repeat(25, 1)
    assert inception_score(certain, splits=1)[0] == pytest.approx(4.0, rel=1e-5)
    assert inception_score(certain[:1].repeat(20, 1), splits=2)[0] == pytest.approx(1.0, rel=1e-5)
    assert inception_score(torch.zeros(20, 4), splits=2)[0] == pytest.approx(1.0, rel=1e-5)


def test_parts_differ_and_the_seed_fixes_them():
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(1))
    state = torch.random.get_rng_state()
    first, spread = inception_score(logits, seed=3)
    assert (first, spread) == inception_score(logits, seed=3)
    assert first != inception_score(logits, seed=4)[0]
    assert spread > 0
    assert torch.equal(state, torch.random.get_rng_state())


def test_every_part_has_its_share_of_the_images():
    """Of 25 certain answers, each another class, ten parts have two or three: a part of one would score 1."""
    mean, spread = inception_score(1000 * torch.eye(25), splits=10)
    assert mean == pytest.approx(2.5)
    assert spread == pytest.approx(math.sqrt(10 * 0.25 / 9))


@pytest.mark.parametrize("logits", [torch.zeros(19, 4), torch.zeros(40), torch.full((40, 4), math.nan)])
def test_refused(logits):
    with pytest.raises(DataError):
        inception_score(logits)
