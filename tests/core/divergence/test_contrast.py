"""Contrastive distillation: its critic, its constant and its memory, against the paper's."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.core.delta import Delta
from limbeck.divergence import (
    CRD,
)
from tests.core.divergence.observed_features import CLOSE, pair
from tests.features import normal


def critic(divergence: CRD, constant: float, anchor: Tensor, other: Tensor) -> Tensor:
    score = (anchor @ other / divergence.temperature).exp()
    return score / (score + constant)


def embedded(divergence: CRD, theirs: Tensor, own: Tensor) -> list[Tensor]:
    return [F.normalize(layer(x), dim=1) for layer, x in ((divergence.teacher, theirs), (divergence.student, own))]


def test_contrast_with_the_papers_critic() -> None:
    torch.manual_seed(0)
    theirs, own = pair((7,), (3,))
    rows = 50  # M of the paper, of which N = 11 are negatives
    divergence = CRD(embedding=5, negatives=11, temperature=0.2, constant=11 / rows).fitted(Delta(theirs), Delta(own))
    taught, learned = embedded(divergence, theirs, own)
    memories = divergence.learned.clone(), divergence.taught.clone()
    found = divergence(Delta(theirs), Delta(own))
    for row in range(3):
        expected = torch.zeros((), dtype=torch.float64)
        for anchor, partner, memory in ((taught, learned, memories[0]), (learned, taught, memories[1])):
            expected = expected - critic(divergence, 11 / rows, anchor[row], partner[row]).log()
            for negative in memory:
                expected = expected - (1 - critic(divergence, 11 / rows, anchor[row], negative)).log()
        torch.testing.assert_close(found[row], expected, **CLOSE)


def test_the_critics_constant_is_that_of_the_first_batch() -> None:
    torch.manual_seed(0)
    theirs, own = pair((7,), (3,))
    divergence = CRD(embedding=5, negatives=11).fitted(Delta(theirs), Delta(own))
    taught, learned = embedded(divergence, theirs, own)
    expected = [
        11 * (anchor @ memory.T / 0.07).exp().mean()
        for anchor, memory in ((taught, divergence.learned), (learned, divergence.taught))
    ]
    divergence(Delta(theirs), Delta(own))
    torch.testing.assert_close(divergence.log_constants.exp(), torch.stack(expected), **CLOSE)
    known = divergence.log_constants.clone()
    divergence(Delta(own @ torch.ones(3, 7, dtype=torch.float64)), Delta(own))
    assert torch.equal(divergence.log_constants, known)


def test_the_memory_is_first_in_first_out() -> None:
    torch.manual_seed(0)
    batches = [normal(((7,), (3,)), seed, 4) for seed in range(4)]
    divergence = CRD(embedding=5, negatives=10).fitted(*map(Delta, batches[0]))
    start = divergence.taught.clone()
    entered = []
    for theirs, own in batches:
        entered.append(embedded(divergence, theirs, own)[0])
        divergence(Delta(theirs), Delta(own))
    seen = torch.cat(entered)  # 16 rows, at places 0, ..., 9, 0, ..., 5
    torch.testing.assert_close(divergence.taught, torch.cat([seen[10:], seen[6:10]]))
    assert int(divergence.place) == 6
    divergence.eval()(*map(Delta, batches[0]))
    assert int(divergence.place) == 6
    assert not torch.equal(divergence.taught, start)


def test_a_batch_larger_than_the_memory() -> None:
    theirs, own = pair((7,), (3,), batch=8)
    torch.manual_seed(0)
    divergence = CRD(embedding=5, negatives=3).fitted(Delta(theirs), Delta(own))
    divergence(Delta(theirs), Delta(own)).sum().backward()
    last = embedded(divergence, theirs, own)[1][-3:]
    torch.testing.assert_close(divergence.learned, last)


def test_contrast_learns_which_rows_belong_together() -> None:
    """A student whose features are a rotation of the teacher's: the bound on the information approaches log N."""
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(8, 8)).Q
    divergence = CRD(embedding=8, negatives=64, temperature=0.1).fitted(
        Delta(torch.randn(4, 8)), Delta(torch.randn(4, 8))
    )
    optimizer = torch.optim.Adam(divergence.parameters(), 0.01)
    costs = []
    for _ in range(200):
        theirs = torch.randn(32, 8)
        loss = divergence(Delta(theirs), Delta(theirs @ turn)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        costs.append(loss.item())
    assert sum(costs[-20:]) < 0.5 * sum(costs[:20])
    taught, learned = embedded(divergence, theirs, theirs @ turn)
    assert ((taught @ learned.T).argmax(1) == torch.arange(32)).float().mean() > 0.9
    assert math.isfinite(costs[-1])
