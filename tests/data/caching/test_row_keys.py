"""Hashes of rows of any shape; how the cache uses them is tested with the engine."""

import torch

from limbeck.data.caching.row_keys import RowKeys


def test_rows_that_are_single_numbers() -> None:
    values = torch.tensor([0.0, 1.0, 0.0, -2.5])
    for keys in RowKeys()(values):
        assert keys.shape == (4,)
        assert keys[0] == keys[2]
        assert len(keys.unique()) == 3
    assert not bool((RowKeys()(values)[0] == RowKeys()(values[:, None])[0]).any())  # the shape is part of a row


def test_no_rows() -> None:
    assert [keys.shape for keys in RowKeys()(torch.zeros(0, 2, 3))] == [(0,), (0,)]
