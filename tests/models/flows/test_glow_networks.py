"""Networks of Glow's couplings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from limbeck.models import Flow, Glow, TableGlow


@pytest.mark.parametrize("build", [partial(TableGlow, 5, 2, 4), partial(Glow, 4, 1, 1, 2, 4, quantization=None)])
def test_units_are_of_the_kind_asked_for(build: Callable[..., Flow]) -> None:
    rectified, smooth = build(), build(activation="GELU")
    assert not any(isinstance(part, torch.nn.ReLU) for part in smooth.modules())
    with torch.no_grad():
        for parameter in rectified.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    smooth.load_state_dict(rectified.state_dict())
    y = rectified.sample(6)["y"]
    assert (smooth.log_prob(y) - rectified.log_prob(y)).abs().min() > 0.0
