"""A model that runs without a trace of it."""

from __future__ import annotations

import pytest
import torch

from limbeck.core.frozen import frozen
from tests.zoo import BY_NAME


def test_it_restores_what_it_found_after_an_error() -> None:
    model, _ = BY_NAME["ladder"].pair()
    model.train()
    model.top_down.eval()
    before = {name: module.training for name, module in model.named_modules()}

    def fail() -> None:
        with frozen(model):
            assert not any(module.training for module in model.modules())
            assert not torch.is_grad_enabled()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert before == {name: module.training for name, module in model.named_modules()}
    assert torch.is_grad_enabled()
