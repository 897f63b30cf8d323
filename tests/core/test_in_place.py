"""A program that changes a value in place after it was declared would compare, pass on or log another value."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

import limbeck
from limbeck.core.divergence import lp
from limbeck.errors import SiteError

CHANGES: dict[str, Callable[[Tensor], object]] = {
    "relu": nn.ReLU(inplace=True),
    "add": lambda value: value.add_(1.0),
    "part": lambda value: value.__setitem__((slice(None), 0), 0.0),
}


class Careless(limbeck.DGM):
    """Changes the value of one of its sites."""

    def __init__(self, where: str = "", change: Callable[[Tensor], object] = torch.relu) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.where = where
        self.change = change

    def generate(self, sites: limbeck.Sites, x: Tensor | None = None) -> None:
        z = sites.latent("z", sites.standard_normal(2))
        self._after("z", z)
        h = self.layer(z)
        h += 1.0  # it is no site yet
        h = sites.deterministic("h", h)
        self._after("h", h)
        y = sites.target("y", Normal(h, 0.3))
        self._after("y", y)

    def _after(self, name: str, value: Tensor) -> None:
        if name == self.where:
            self.change(value)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("where", ["z", "h", "y"])
def test_a_value_that_is_changed_in_place_is_told(where: str, change: Callable[[Tensor], object]) -> None:
    assert set(Careless().trace(3)) == {"z", "h", "y"}
    with torch.no_grad(), pytest.raises(SiteError, match=rf"site '{where}': its value was changed in place"):
        Careless(where, change).trace(3)


def test_a_feature_of_the_teacher_and_data_that_were_given() -> None:
    objective = limbeck.Objective([limbeck.Match("h", divergence=lp)])
    with pytest.raises(SiteError, match="site 'h'"):
        objective(Careless("h", CHANGES["relu"]), Careless(), batch_size=3)
    with torch.no_grad(), pytest.raises(SiteError, match="site 'y'"):
        Careless("y", CHANGES["add"]).trace(values={"y": torch.zeros(3, 2)})


def test_a_value_that_was_given_and_is_not_kept() -> None:
    """It is the teacher's, or the user's data."""
    for where in ("h", "y"):
        given = {where: -torch.ones(3, 2)}
        with torch.no_grad(), pytest.raises(SiteError, match=f"site '{where}': its value was changed"):
            Careless(where, CHANGES["relu"]).trace(values=given, keep=lambda name, kind: 0)


class Preallocated(limbeck.DGM):
    """Writes its states into one tensor."""

    def __init__(self, cloned: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.cloned = cloned

    def generate(self, sites: limbeck.Sites, x: Tensor | None = None) -> None:
        states = sites.zeros(2, 2)
        for step in range(2):
            states[:, step] = self.layer(states[:, step])
            state = states[:, step]
            sites.deterministic(f"h[{step}]", state.clone() if self.cloned else state)
        sites.target("y", Normal(states, 0.3))


def test_a_part_of_a_tensor_is_told_as_such() -> None:
    """Torch counts changes of whole tensors."""
    with torch.no_grad():
        with pytest.raises(SiteError, match=r"a tensor that it is a part of .* declare a clone\(\)"):
            Preallocated(cloned=False).trace(3)
        assert len(Preallocated(cloned=True).trace(3)) == 3


def test_inference_mode_does_not_tell() -> None:
    with torch.inference_mode():
        assert len(Careless().trace(3)) == 3
