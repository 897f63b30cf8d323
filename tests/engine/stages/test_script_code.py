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
from limbeck.engine.stages.script_code import code_values

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


PARTS = """
import dataclasses
import enum
import functools
import torch

SCALE = 1.0
TABLE = torch.tensor([1.0, 2.0])

def helper(x):
    return x * SCALE

cached = functools.cache(helper)
given = functools.partial(helper, 3)

def decorated(function):
    @functools.wraps(function)
    def around(x):
        return function(x) - 1
    return around

@decorated
def changed(x):
    return helper(x)

def made(factor):
    def enclosing(x):
        return x * factor
    return enclosing

enclosing = made(2.0)

@dataclasses.dataclass(frozen=True)
class Settings:
    width: int
    words: frozenset

class Kind(enum.Enum):
    ONE = 1
    TWO = 2

settings = Settings(3, frozenset({"a", "b"}))
kind = Kind.ONE

class Divergence:
    width = 3

    def __init__(self, start=SCALE):
        pass

    def __call__(self, p, q):
        return USE
"""


@pytest.mark.parametrize(
    ("use", "before", "after"),
    [
        ("cached(p)", "x * SCALE", "x + SCALE"),
        ("given(p)", "x * SCALE", "x + SCALE"),
        ("given(p)", "helper, 3", "helper, 4"),
        ("changed(p)", "x * SCALE", "x + SCALE"),
        ("changed(p)", "function(x) - 1", "function(x) - 2"),
        ("enclosing(p)", "made(2.0)", "made(3.0)"),
        ("p * TABLE", "[1.0, 2.0]", "[1.0, 3.0]"),
        ("settings.width", "Settings(3", "Settings(4"),
        ("settings.words", '"b"}', '"c"}'),
        ("kind", "kind = Kind.ONE", "kind = Kind.TWO"),
        ("self.width", "width = 3", "width = 4"),
        ("p", "SCALE = 1.0", "SCALE = 2.0"),
    ],
)
def test_what_is_wrapped_enclosed_or_a_default_counts(run: Script, use: str, before: str, after: str) -> None:
    text = PARTS.replace("USE", use)
    keys = [fingerprint(value=describe_value(run(each).Divergence())) for each in (text, text.replace(before, after))]
    assert keys[0] != keys[1]
    assert keys[0] == fingerprint(value=describe_value(run(text).Divergence()))


def test_the_order_of_a_set_does_not_count() -> None:
    """That of a set of texts is another in each process, and numbers have one that depends on how it was made."""
    code = (lambda x: x in {"a", "b"}).__code__
    one, other = (code.replace(co_consts=(frozenset(numbers),)) for numbers in ([0, 8], [8, 0]))
    assert repr(one.co_consts) != repr(other.co_consts)
    assert code_values(one) == code_values(other)
