"""A loss is its terms, and a batch has rows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.core.loss import Batch, Loss
from limbeck.errors import DataError


def test_the_terms_of_a_loss_are_its_total() -> None:
    loss = Loss.of({"a": torch.tensor(3.0), "b": torch.tensor(-1.0)})
    assert loss.total.item() == 2.0
    assert loss.shares() == {"a": 0.75, "b": 0.25}
    assert Loss.of({}).total.item() == 0.0
    assert Loss.of({"a": torch.tensor(0.0)}).shares() == {"a": 0.0}


def test_backward_is_that_of_the_total() -> None:
    w = nn.Parameter(torch.tensor(2.0))
    Loss.of({"a": w**2, "b": 3 * w}).backward()
    assert w.grad.item() == 7.0


def test_a_batch_has_rows() -> None:
    assert len(Batch(torch.zeros(3, 2))) == 3


@pytest.mark.parametrize("rows", [3, 5])
def test_a_batch_refuses_labels_of_other_rows(rows: int) -> None:
    """Too few of them would be paired with the first inputs, and nothing would tell."""
    with pytest.raises(DataError, match=f"{rows} rows of y and 4 of x"):
        Batch(torch.arange(rows), torch.zeros(4, 2))
