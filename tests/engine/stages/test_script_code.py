"""What is defined in a script or a notebook counts like what is defined in a module."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.objective_description import describe_value

SCRIPT = """
import functools
import torch
from torch import nn
import limbeck
from limbeck.models import NetworkClassifier

SCALE = 1.0
state = 0

def helper(x):
    return x * SCALE

def activation(x):
    return helper(x)

class Base(nn.Module):
    def forward(self, x):
        return self.fc(activation(x))

class Net(Base):
    def __init__(self, act=torch.relu, size=1.0):
        super().__init__()
        self.act = act
        self.fc = nn.Linear(2, 2)
        self.register_buffer("size", torch.tensor(size), persistent=False)
        nn.init.zeros_(self.fc.weight), nn.init.zeros_(self.fc.bias)

def build(act=torch.relu, size=1.0) -> nn.Module:
    state = 0
    return Net(act, size)

class Chain(limbeck.DGM):
    def generate(self, sites, x=None):
        activation(x)

class Divergence:
    def __call__(self, p, q):
        return activation(p)

outside = lambda **settings: NetworkClassifier.wrap(Net(**settings))
named = lambda: NetworkClassifier.wrap(build(), network="__main__:build", settings={})
"""
Script = Callable[[str], ModuleType]


@pytest.fixture(params=["script", "notebook"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Runs a text as a script, or as the cell of a notebook, where Python has no source of classes."""
    count = 0

    def running(text: str) -> ModuleType:
        nonlocal count
        count += 1
        module = ModuleType("__main__")
        path = tmp_path / f"{count}.py"
        path.write_text(text)
        if request.param == "script":
            module.__file__ = str(path)
        monkeypatch.setitem(sys.modules, "__main__", module)
        exec(compile(text, str(path) if request.param == "script" else "<cell>", "exec"), module.__dict__)
        return module

    return running


THINGS = ["model_key(outside())", "model_key(named())", "model_key(Chain())", "describe(Divergence())"]


@pytest.mark.parametrize("thing", THINGS)
def test_what_a_script_defines_counts(run: Script, thing: str) -> None:
    """Else an edited model would be taken for the one before, and its finished training read back."""

    def key(text: str) -> str:
        found = run(text)
        found.__dict__.update(model_key=model_key, describe=lambda value: fingerprint(value=describe_value(value)))
        return str(eval(thing, found.__dict__))

    first = key(SCRIPT)
    assert first == key(f"# why\n{SCRIPT}")
    assert first == key(f"{SCRIPT}\nother = 1\n")
    assert first == key(SCRIPT.replace("state = 0\n\n", "state = 1\n\n"))  # a local name is no global one
    assert first != key(SCRIPT.replace("SCALE = 1.0", "SCALE = 2.0"))
    assert first != key(SCRIPT.replace("x * SCALE", "x + SCALE"))
    assert first != key(SCRIPT.replace("helper(x)\n\nclass", "helper(2 * x)\n\nclass"))


def test_what_a_network_was_constructed_with_counts(run: Script) -> None:
    """Its weights do not tell a function, nor a buffer that is not saved."""
    found = run(SCRIPT)
    given = ["{}", "{'act': torch.tanh}", "{'act': activation}", "{'act': functools.partial(activation, 2)}",
             "{'size': 2.0}"]  # fmt: skip
    keys = [model_key(eval(f"outside(**{settings})", found.__dict__)) for settings in given]
    assert len(set(keys)) == len(given)
    assert model_key(found.outside()) == keys[0]
