"""An objective is one program for ``torch.compile``: what would break it in two keeps a step from being compiled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from limbeck.core import methods
from limbeck.core.objective import Objective
from tests.zoo import BY_NAME, Entry

# Not here, since torch itself cannot follow them: hooks that come and go (NetworkClassifier with features), bisections
# and scipy (counts), lengths that the data tell (VRNN), rows chosen by values (batch norm of domains).
CASES = [
    ("helmholtz", "surrogate"),
    ("helmholtz", "local"),
    ("gaussian chain", "surrogate"),
    ("loop", "surrogate"),
    ("ladder", "surrogate"),
    ("ladder", "scratch"),
    ("classifier", "marginalized"),
    ("features", "labels"),
]
MORE = [
    ("helmholtz", "relaxed"),
    ("told", "joint"),
    ("bottleneck", "surrogate"),
    ("network", "joint"),
    ("flow", "surrogate"),
    ("diffusion", "surrogate"),
]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    torch.compiler.reset()


def objective(method: str, entry: Entry) -> Objective:
    surrogate = methods.surrogate(latent_weight=0.1, target=entry.target)
    if method == "relaxed":
        return methods.surrogate(discrete_gradient="relaxed")
    found = {"surrogate": surrogate, "local": methods.local(), "joint": methods.joint(0.5, surrogate)}
    found |= {"scratch": methods.scratch(), "marginalized": methods.marginalized(3)}
    found |= {"labels": methods.transfer(["y:kd"], target=None)}
    return found[method]


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a .functools.lru_cache")
@pytest.mark.parametrize(("name", "method"), [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)])
def test_is_one_program_with_the_same_loss_and_gradients(name: str, method: str) -> None:
    entry = BY_NAME[name]
    teacher, student = entry.pair()
    teacher.requires_grad_(False)
    what, batch = objective(method, entry), None if entry.data is None else entry.data(6)
    rows = {"batch_size": 6} if batch is None or not (what.needs_data or entry.conditional) else {"batch": batch}

    def total() -> Tensor:
        return what(teacher, student, progress=0.3, **rows).total

    found = []
    for run in (total, torch.compile(total, fullgraph=True, backend="eager")):
        student.zero_grad()
        torch.manual_seed(3)
        loss = run()
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in student.parameters() if p.grad is not None)])
    assert len(found[0]) > 1
    torch.testing.assert_close(found[1], found[0])
