"""The graph of the recogniser has the structure of the true posterior."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limbeck.models.helmholtz.graph import inverse
from tests.models.helmholtz.machines import TREE, enumerated, machine, rows


@pytest.mark.parametrize("graph", [None, TREE])
def test_the_recogniser_has_the_true_posterior_s_structure(graph: dict | None) -> None:
    """Given its parents in the recogniser, a latent is independent of all that is known; given fewer, it is not."""
    targets = ["y1", "y2"] + (["y3"] if graph else [])
    model = machine(graph=graph, targets=targets, latent_size=1)
    y = rows(1, len(targets))
    joint, states = enumerated(model, y)
    weights = torch.softmax(joint[:, 0], 0)
    before: list[str] = []
    for latent, parents in model.backward_graph.items():
        # The targets are fixed here, so only latents can be left out; which targets matter is checked below.
        full = conditional(weights, states, latent, before)
        assert torch.allclose(full, conditional(weights, states, latent, [n for n in parents if n in before]))
        before.append(latent)
    flat = {name: list(parents) for name, parents in model.backward_graph.items()}
    if graph is None:
        assert flat == {"z1": ["y2", "y1"], "z2": ["y2", "z1"], "z3": ["y2"], "z4": ["z3"]}
    else:
        assert flat == {"z1": ["y2", "y1"], "z2": ["y2", "z1", "y1"], "z3": ["y2", "z2", "z1"]}


def conditional(weights: Tensor, states: dict[str, Tensor], latent: str, given: list[str]) -> Tensor:
    """P(latent = 1 | given) in every joint state."""
    result = torch.zeros(len(weights), dtype=torch.float64)
    for i in range(len(weights)):
        same = torch.ones(len(weights), dtype=torch.bool)
        for name in given:
            same &= (states[name] == states[name][i]).all(1)
        ones = same & (states[latent][:, 0] == 1.0)
        result[i] = weights[ones].sum() / weights[same].sum()
    return result


def test_the_recogniser_leaves_nothing_out_that_matters() -> None:
    graph = inverse({"z4": [], "z3": ["z4"], "y2": ["z3"], "z2": ["y2"], "z1": ["z2"], "y1": ["z1"]}, ["y1", "y2"])
    # y1 tells of z1 directly and y2 through z2, which is not drawn yet; once z1 is drawn, y1 adds nothing to z2.
    assert graph["z1"] == ["y2", "y1"]
    assert graph["z2"] == ["y2", "z1"]
    # A common child makes its parents dependent.
    assert inverse({"a": [], "b": [], "y": ["a", "b"]}, ["y"]) == {"b": ["y"], "a": ["b", "y"]}
