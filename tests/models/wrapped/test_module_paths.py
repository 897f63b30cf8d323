"""Where in a network the logits come from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.models.wrapped.module_paths import penultimate_path
from tests.models.wrapped.wrapped_networks import images, small


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"fc": nn.Linear(2, 2), "projection": nn.Linear(2, 2)}, "fc"),
        ({"features": nn.Linear(2, 2), "classifier": nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))},
         "classifier.2"),
        ({"head": nn.Linear(2, 2), "body": nn.Linear(2, 2)}, "head"),
        ({"heads": nn.ModuleDict({"head": nn.Linear(2, 2)}), "tail": nn.Linear(2, 2)}, "heads.head"),
        ({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}, "b"),
        ({"classifier": nn.Conv2d(2, 2, 1), "before": nn.Linear(2, 2)}, "before"),
        ({"headless": nn.Linear(2, 2), "last": nn.Linear(2, 2)}, "last"),
        ({"classifier": nn.Conv2d(2, 2, 1)}, None),
    ],
)  # fmt: skip
def test_the_layer_of_the_logits_is_found(parts: dict[str, nn.Module], expected: str | None) -> None:
    network = nn.Module()
    for name, module in parts.items():
        network.add_module(name, module)
    assert penultimate_path(network) == expected


def test_the_logits_of_a_user_s_network_come_from_its_head() -> None:
    model = small()
    assert model.penultimate == "fc"
    assert torch.equal(model.network.fc(model.trace(x=images())["penultimate"].value), model.network(images()))
