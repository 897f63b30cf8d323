"""A model that cannot be copied is told before anything is trained."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from limbeck.core.copying import copied
from limbeck.engine.teachers.prepare import prepare
from limbeck.errors import ModelError
from limbeck.models import NetworkClassifier


def test_a_copy_shares_nothing() -> None:
    model = NetworkClassifier.wrap(nn.Linear(2, 2))
    same = copied(model)
    with torch.no_grad():
        same.network.weight.add_(1.0)
    assert not torch.equal(same.network.weight, model.network.weight)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_cannot_be_copied_is_named() -> None:
    normed = nn.Sequential(nn.Linear(2, 2), torch.nn.utils.weight_norm(nn.Linear(2, 2)))
    with pytest.raises(ModelError, match=r"its part 'network.1': RuntimeError: Only .*weight_norm use that of"):
        prepare(NetworkClassifier.wrap(normed))
    model = NetworkClassifier.wrap(nn.Linear(2, 2))
    model.lock = threading.Lock()
    with pytest.raises(ModelError, match="because of an attribute: TypeError: cannot pickle"):
        copied(model)


@pytest.mark.parametrize(
    "lack", [torch.OutOfMemoryError("out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_lack_of_memory_is_no_fault_of_the_model(lack: Exception) -> None:
    class Large(nn.Linear):
        def __deepcopy__(self, memo: dict[int, object]) -> nn.Module:
            raise lack

    with pytest.raises(type(lack), match="memory"):
        copied(nn.Sequential(Large(2, 2)))
