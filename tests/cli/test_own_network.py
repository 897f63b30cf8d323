"""A user's own network is built with what was typed, as its builder wants it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from limbeck.cli.layer_matches import LayerMatches
from limbeck.cli.own_network import OwnNetwork
from limbeck.cli.parsing import new_parser
from limbeck.cli.words import import_modules, settings_texts, take_settings
from limbeck.errors import RecipeError

NET = """
from typing import Literal
from torch import nn

class Net(nn.Linear):
    def __init__(self, rate=0.5, name: str = "a", norm: str | None = None, act: Literal["on", "off"] = "off",
                 depth: int | str = 2):
        super().__init__(2, 2)
        self.found = [rate, name, norm, act, depth]
"""


@pytest.mark.parametrize(
    ("word", "place", "value"),
    [
        ("rate=1e-3", 0, 1e-3),
        ("rate=[1e-3, 2E5]", 0, [1e-3, 2e5]),
        ("name=007", 1, "007"),
        ("name=1e-3", 1, "1e-3"),
        ("norm=no", 2, "no"),
        ("norm=null", 2, None),
        ("act=on", 3, "on"),
        ("depth=3", 4, 3),
        ("depth=off", 4, "off"),
    ],
)
def test_settings_as_the_builder_wants_them(
    word: str, place: int, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``1e-3`` is a text and ``no`` is false in plain YAML."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "typed_net", raising=False)
    (tmp_path / "typed_net.py").write_text(NET)
    words = [f"--student.{word}"]
    network = OwnNetwork.built(
        "student", "typed_net:Net", take_settings(words, "student")[0], settings_texts(words, "student")
    )
    assert network.module.found[place] == value
    assert type(network.module.found[place]) is type(value)


def test_a_pattern_means_no_network_itself() -> None:
    network = OwnNetwork("student", "net", {}, nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))))
    assert LayerMatches.of(["--match=*:fitnet"])[0].layers(network) == {"0": "0", "1": "1"}
    assert LayerMatches.of(["--match=1.*:fitnet"])[0].layers(network) == {"1.0": "1.0"}


def test_several_modules_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("one_of_mine", "other_of_mine"):
        (tmp_path / f"{name}.py").write_text("")
        monkeypatch.delitem(sys.modules, name, raising=False)
    import_modules(new_parser("", ""), ["--import=one_of_mine", "--import", "other_of_mine"])
    assert {"one_of_mine", "other_of_mine"} <= sys.modules.keys()
    with pytest.raises(RecipeError, match="--import=none_of_mine: No module named 'none_of_mine'"):
        import_modules(new_parser("", ""), ["--import=none_of_mine", "--import=one_of_mine"])
