"""Learning without forgetting against its formula."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical

from limbeck.core.delta import Delta
from limbeck.divergence import (
    LwF,
)
from tests.core.divergence.observed_features import CLOSE, pair, softmax
from tests.features import CASES


@pytest.mark.parametrize("loss", ["squared", "cross-entropy"])
def test_lwf_is_its_formula(loss: str) -> None:
    divergence = CASES["lwf"].sized() if loss == "cross-entropy" else CASES["lwf, squared"].sized()
    assert isinstance(divergence, LwF)
    theirs, own = pair((4,), (6,))
    predicted = own @ divergence.head.weight.T + divergence.head.bias
    if loss == "squared":
        expected = ((theirs - predicted) ** 2).sum(1) / 2 / 4
    else:
        expected = -(softmax(theirs / 2.0) * softmax(predicted / 2.0).log()).sum(1)
    torch.testing.assert_close(divergence(Delta(theirs), Delta(own)), expected, **CLOSE)
    if loss == "cross-entropy":
        torch.testing.assert_close(divergence(Categorical(logits=theirs), Delta(own)), expected, **CLOSE)


def test_the_squared_error_can_be_a_sum() -> None:
    theirs, own = map(Delta, pair((4,), (6,)))
    mean = CASES["lwf, squared"].sized()
    assert isinstance(mean, LwF)
    whole = LwF("squared", normalize=False).fitted(theirs, own)
    whole.load_state_dict(mean.state_dict())
    torch.testing.assert_close(whole(theirs, own), 4 * mean(theirs, own), **CLOSE)
