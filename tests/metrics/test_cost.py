"""Throughput and parameter counts."""

import time

import pytest
import torch
from torch import nn

from limbeck.errors import DataError
from limbeck.metrics import parameter_count, throughput


def test_throughput_of_a_known_rate() -> None:
    """Sleeping can only take longer than asked, so the rate is bounded above; below, the machine may be busy."""
    rate = throughput(lambda rows: time.sleep(0.001 * rows), batch_size=10, seconds=0.1)
    assert 100 < rate <= 1000


def test_one_slow_call_does_not_change_the_median() -> None:
    calls: list[int] = []

    def sample(rows: int) -> None:
        calls.append(rows)
        time.sleep(0.8 if len(calls) == 5 else 0.005)

    assert throughput(sample, batch_size=5, seconds=0.1) > 180  # the mean would be 110
    assert set(calls) == {5}


def test_gradients_are_off_and_every_window_calls() -> None:
    flags: list[bool] = []
    throughput(lambda rows: flags.append(torch.is_grad_enabled()), batch_size=1, seconds=0.0, repeats=3)
    assert flags == [False] * 5
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 1, "repeats": 0}])
def test_unusable_options(options: dict[str, int]) -> None:
    with pytest.raises(DataError, match="at least 1"):
        throughput(lambda rows: None, **options)


def test_parameter_count() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    assert parameter_count(model.parameters()) == 15 + 6
    shared = nn.ModuleList([model[0], nn.Linear(4, 3)])
    shared[1].weight = model[0].weight
    assert parameter_count([*model[0].parameters(), *shared[1].parameters()]) == 12 + 3 + 3
    assert parameter_count([]) == 0
