"""Where in a network the logits come from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.errors import ModelError
from limbeck.models.wrapped.module_paths import check_path, penultimate_path
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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("inside", [False, True], ids=["the network", "a part of it"])
@pytest.mark.parametrize("how", ["trace", "script"])
def test_parts_of_a_torchscript_module_cannot_be_looked_at(how: str, inside: bool) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    script = torch.jit.trace(network, torch.zeros(1, 3)) if how == "trace" else torch.jit.script(network)
    with pytest.raises(ModelError, match=r"'[0.]+' cannot be looked at.*Wrap the network that it was made from"):
        check_path(nn.Sequential(script) if inside else script, "0.0" if inside else "0")
    if inside:
        check_path(nn.Sequential(script), "0")  # as a whole it is a module like any other
