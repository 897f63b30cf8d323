"""What a model was constructed with stays what it was, whatever becomes of the lists that were passed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import limbeck
from limbeck.core.recorded_arguments import recorded_arguments


class Layered(limbeck.DGM):
    """Changes the list and the dictionary that it is given, as constructors do."""

    def __init__(self, widths: list[int], options: dict[str, Any] | None = None) -> None:
        super().__init__()
        widths.insert(0, 2)
        self.bias = {} if options is None else options.pop("inner")
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def generate(self, sites: limbeck.Sites, x: Tensor | None = None) -> None:
        h = sites.standard_normal(2).mean
        for layer in self.layers:
            h = layer(h)
        sites.target("y", torch.distributions.Normal(h, 1.0))


def test_what_a_constructor_or_its_caller_changes_is_saved_as_it_was(tmp_path: Path) -> None:
    widths, options = [4, 3], {"inner": {"bias": [True]}}
    model = Layered(widths, options)
    widths.append(99)
    model.bias["bias"].append(False)
    assert model.config == {"widths": [4, 3], "options": {"inner": {"bias": [True]}}}
    model.save_pretrained(tmp_path)
    again = Layered.from_pretrained(tmp_path)
    assert [layer.out_features for layer in again.layers] == [4, 3]


def test_what_is_no_plain_value_is_kept_as_it_is() -> None:
    layer = nn.Linear(2, 2)

    def build(self: object, network: nn.Module, sizes: tuple[list[int], ...] = ([1], [2])) -> None: ...

    found = recorded_arguments(build, None, layer)
    assert found["network"] is layer
    assert found["sizes"] == ([1], [2])
    assert found["sizes"][0] is not build.__defaults__[0][0]
