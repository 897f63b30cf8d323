"""Hashes tell rows of any shape and type apart; how the cache uses them is tested with the engine."""

import pytest
import torch

from limbeck.data.caching.row_keys import RowKeys


def test_rows_may_be_single_numbers() -> None:
    values = torch.tensor([0.0, 1.0, 0.0, -2.5])
    for keys in RowKeys()(values):
        assert keys.shape == (4,)
        assert keys[0] == keys[2]
        assert len(keys.unique()) == 3
    assert not bool((RowKeys()(values)[0] == RowKeys()(values[:, None])[0]).any())  # the shape is part of a row


def test_no_rows_have_no_keys() -> None:
    assert [keys.shape for keys in RowKeys()(torch.zeros(0, 2, 3))] == [(0,), (0,)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.uint8, torch.bool])
def test_keys_tell_all_rows_apart(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(2, (4000, 3, 7), generator=generator).to(dtype)
    first, second = RowKeys()(x)
    distinct = len(torch.unique(x.flatten(1).double(), dim=0))
    assert distinct > 3900
    assert len(first.unique()) == len(second.unique()) == distinct
    # The shape and the type of a row are part of it, its place is not.
    assert not bool((first == RowKeys()(x.view(4000, 21))[0]).any())
    order = torch.randperm(4000, generator=generator)
    assert torch.equal(RowKeys()(x[order])[0], first[order])


def test_keys_see_every_bit() -> None:
    x = torch.rand(1, 5, generator=torch.Generator().manual_seed(0))
    flipped = x.view(torch.int32).repeat(160, 1)
    for number in range(160):
        flipped[number, number // 32] ^= (1 << number % 32) - (1 << 32 if number % 32 == 31 else 0)
    together = torch.cat([x, flipped.view(torch.float32)])
    assert all(len(keys.unique()) == 161 for keys in RowKeys()(together))
