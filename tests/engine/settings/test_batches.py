"""Which rows belong to which step."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.core.loss import Batch
from limbeck.engine.settings.batches import Batches
from limbeck.errors import DataError


def numbered(count: int) -> Batch:
    return Batch(y=torch.arange(count), x=10.0 * torch.arange(count))


class TestBatches:
    @given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
    @settings(max_examples=60, deadline=None)
    def test_every_epoch_is_a_permutation(self, count: int, batch_size: int, seed: int) -> None:
        batches = Batches(numbered(count), batch_size, seed)
        drawn = [row for step in range(4 * count // batch_size + 1) for row in batches(step).y.tolist()]
        for epoch in range(len(drawn) // count):
            assert sorted(drawn[epoch * count : (epoch + 1) * count]) == list(range(count))

    def test_epochs_and_seeds_differ(self) -> None:
        batches = Batches(numbered(20), 20, 0)
        orders = [batches(0).y.tolist(), batches(1).y.tolist(), Batches(numbered(20), 20, 1)(0).y.tolist()]
        assert len({tuple(order) for order in orders}) == 3

    def test_a_step_does_not_depend_on_those_before(self) -> None:
        batches, other = Batches(numbered(10), 4, 0), Batches(numbered(10), 4, 0)
        expected = [batches(step).y.tolist() for step in range(9)]
        steps = list(range(9))
        random.Random(1).shuffle(steps)
        assert all(other(step).y.tolist() == expected[step] for step in steps)

    def test_condition_stays_with_its_row(self) -> None:
        batch = Batches(numbered(10), 7, 0)(2)
        assert torch.equal(batch.x, 10.0 * batch.y)

    @pytest.mark.parametrize("world", [1, 2, 4])
    def test_processes_share_the_rows_of_one(self, world: int) -> None:
        batches = Batches(numbered(10), 8, 0)
        for step in range(7):
            parts = [batches(step, rank, world).y.tolist() for rank in range(world)]
            assert {len(part) for part in parts} == {8 // world}
            assert [row for part in parts for row in part] == batches(step).y.tolist()

    def test_bytes_become_floats(self) -> None:
        batch = Batches(Batch(torch.tensor([[0], [51], [255]], dtype=torch.uint8)), 3, 0)(0)
        assert batch.y.dtype == torch.float32
        assert sorted(batch.y.flatten().tolist()) == pytest.approx([0.0, 0.2, 1.0])
        assert batch.x is None

    def test_labels_stay_labels(self) -> None:
        assert Batches(numbered(4), 2, 0)(0).y.dtype == torch.int64

    def test_without_rows(self) -> None:
        with pytest.raises(DataError, match="empty"):
            Batches(numbered(0), 2, 0)
