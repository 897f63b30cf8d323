"""Modules behind a partial, a bound method or inside a coupling train and are saved with the objective."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from limbeck.core.coupling import MappedNoise, SharedNoise, WithData, WithPosterior
from limbeck.core.divergence import VID, kl, nll
from limbeck.core.loss import Batch
from limbeck.core.methods import mapped
from limbeck.core.objective import Match, Objective
from limbeck.core.objective.comparison import Pair, compare
from limbeck.errors import MatchError
from tests.small_models import LinearGaussian


class Scaled(nn.Module):
    """KL times a number that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.calls = 0

    def forward(self, p: Distribution, q: Distribution, k: float = 1.0) -> Tensor:
        self.calls += 1
        return k * self.scale * kl(p, q)


def linear() -> LinearGaussian:
    return LinearGaussian([["z", "latent", 3, []], ["y", "target", 2, ["z"]]]).double()


WRAPPED = {
    "partial": lambda module: partial(module, k=2.0),
    "twice": lambda module: partial(partial(module, k=1.0), k=2.0),
    "bound method": lambda module: module.forward,
    "partial of a bound method": lambda module: partial(module.forward, k=2.0),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_module_behind_a_function_is_found(wrap) -> None:
    module, other = Scaled(), Scaled()
    objective = Objective([Match("y", divergence=wrap(module)), Match("z", divergence=other)])
    assert set(objective.parameters()) == {module.scale, other.scale}
    assert "divergences.0.scale" in objective.state_dict()  # the one given as it is keeps its key
    objective(linear(), linear(), batch_size=4).backward()
    assert module.scale.grad is not None
    wrapped, law = wrap(module), Normal(torch.zeros(4, 2), 1.0)
    compare([Pair(f"z[{place}]", wrapped, 1.0, law, law) for place in range(3)])
    assert module.calls == 1 + 3  # one call a site


def test_a_template_behind_a_function_is_refused() -> None:
    with pytest.raises(MatchError, match="give the VID itself"):
        Match("h", divergence=partial(VID()))


@pytest.mark.parametrize(
    "wrap",
    [WithData, lambda inner: WithPosterior(inner, share="values"), lambda inner: WithData(WithPosterior(inner))],
    ids=["data", "posterior", "both"],
)
def test_a_noise_map_inside_another_coupling_is_trained(wrap) -> None:
    objective = Objective([Match("y")], wrap(MappedNoise("learned")))
    teacher, student = linear(), linear()
    objective.prepare(teacher, student)
    assert len(list(objective.parameters())) == 1
    assert len(objective.state_dict()) >= 1
    assert objective.double() is objective


def test_the_map_beside_labels_gets_a_gradient() -> None:
    objective = Objective([Match("y"), Match("y|data", "y", nll)], WithData(MappedNoise("learned")))
    teacher, student = linear(), linear()
    objective.prepare(teacher, student)
    objective(teacher, student, batch=Batch(torch.zeros(8, 2, dtype=torch.float64))).backward()
    (parameter,) = objective.parameters()
    assert parameter.grad is not None
    assert parameter.grad.abs().sum() > 0


def test_keys_of_a_coupling_given_as_it_is_stay() -> None:
    objective = mapped("learned")
    teacher, student = linear(), linear()
    objective.prepare(teacher, student)
    assert all(key.startswith("coupling.noise_map.") for key in objective.state_dict())
    assert not Objective([Match("y")], SharedNoise()).state_dict()
