"""A noise map: where it begins, how it learns and travels, and that it keeps its precision whatever the models have."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

import limbeck
from limbeck.core.coupling import MappedNoise, Preparable
from limbeck.core.coupling.noise_map import MapKind
from limbeck.core.methods import mapped
from limbeck.engine.settings.options import Training
from limbeck.engine.training.fit import fit
from limbeck.errors import MatchError
from tests.core.coupling.latent_families import LESS, TEACHER, Families, turned
from tests.small_models import CHAIN, LinearGaussian


class Flat(limbeck.DGM):
    """A vector of noise and a linear map of it."""

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.latents = latents
        self.layer = nn.Linear(latents, 2)

    def generate(self, sites: limbeck.Sites, x: Tensor | None = None) -> None:
        z = sites.latent("z", sites.standard_normal(self.latents))
        sites.target("y", Normal(self.layer(z), 0.3))


@pytest.mark.parametrize("map", ["random", "learned"])
def test_mixed_precision_does_not_round_it(map: MapKind) -> None:
    torch.manual_seed(0)
    coupling = MappedNoise(map, start="random")
    coupling.prepare(Flat(64), Flat(64))
    assert coupling.noise_map is not None
    noise = torch.randn(5, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rotated = coupling.noise_map(noise)
    torch.testing.assert_close(rotated.norm(dim=1), noise.norm(dim=1))


def test_a_learned_map_between_models_in_half_precision_trains() -> None:
    teacher, student = Flat(5).bfloat16(), Flat(3).bfloat16()
    objective = mapped("learned", start="random")
    objective.prepare(teacher, student)
    objective.bfloat16()
    own = list(objective.parameters())
    assert {parameter.dtype for parameter in own} == {torch.float32}
    objective(teacher, student, batch_size=4).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in own)
    assert isinstance(objective.coupling, MappedNoise)
    assert objective.coupling.noise_map is not None
    matrix = objective.coupling.noise_map.matrix
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3))


def test_maps_of_one_seed_agree_and_of_two_do_not() -> None:
    teacher, student = Families(TEACHER), Families(LESS)
    matrices = []
    for seed in (0, 0, 1):
        state = torch.get_rng_state()
        coupling = MappedNoise("random", seed=seed)
        coupling.prepare(teacher, student)
        assert torch.equal(state, torch.get_rng_state())
        matrices.append(coupling.noise_map.matrix)
    assert torch.equal(matrices[0], matrices[1])
    assert (matrices[0] - matrices[2]).abs().max() > 0.1


@pytest.mark.parametrize("start", ["arrange", "position", "random"])
def test_a_learned_map_begins_where_it_is_told(start: str) -> None:
    teacher, student = Families(TEACHER), Families(LESS)
    fixed, learned = MappedNoise(start), MappedNoise("learned", start=start)
    for coupling in (fixed, learned):
        coupling.prepare(teacher, student)
    torch.testing.assert_close(learned.noise_map.matrix, fixed.noise_map.matrix, rtol=0, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in fixed.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_learned_map_stays_orthonormal_and_turns_with_the_learning_rate(dtype: torch.dtype) -> None:
    teacher, student = Families(TEACHER).to(dtype), Families(LESS).to(dtype)
    coupling = MappedNoise("learned")
    coupling.prepare(teacher, student)
    optimizer = torch.optim.Adam(coupling.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    before = coupling.noise_map.matrix.detach()
    for _ in range(30):
        loss = (coupling.noise_map.matrix * torch.randn(before.shape, generator=generator).to(dtype)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after = coupling.noise_map.matrix.detach()
        assert 1e-6 < torch.linalg.matrix_norm(after - before, 2).item() < 0.03
        before = after
    torch.testing.assert_close(before @ before.T, torch.eye(5, dtype=dtype), rtol=0, atol=20 * torch.finfo(dtype).eps)


def test_learned_maps_are_saved_with_the_objective_and_copied() -> None:
    teacher, student = Families(TEACHER), Families(LESS)
    objective = mapped("learned")
    assert isinstance(objective.coupling, Preparable)
    objective.prepare(teacher, student)
    turned(objective.coupling, teacher, student)
    again = mapped("learned", start="random", seed=3)
    again.prepare(teacher, student)
    again.load_state_dict(objective.state_dict())
    assert all(tensor.is_contiguous() for tensor in objective.state_dict().values())  # for safetensors
    for other in (again, copy.deepcopy(objective)):
        torch.testing.assert_close(other.coupling.noise_map.matrix, objective.coupling.noise_map.matrix)
    once = objective.coupling.noise_map
    objective.prepare(teacher, student)
    assert objective.coupling.noise_map is once


def test_a_learned_map_trains_with_the_student() -> None:
    torch.manual_seed(0)
    teacher = LinearGaussian(CHAIN)
    student = LinearGaussian([["c", "latent", 3, []], ["y", "target", 3, ["c"]]])
    objective = mapped("learned", start="arrange")
    fit(student, objective, Training(steps=1, batch_size=8), teacher=teacher)
    begun = objective.coupling.noise_map.matrix.detach().clone()
    fit(student, objective, Training(steps=20, batch_size=64, learning_rate=0.02), teacher=teacher)
    assert (objective.coupling.noise_map.matrix - begun).abs().max() > 0.01


def test_a_learned_map_must_be_prepared() -> None:
    with pytest.raises(MatchError, match=r"objective\.prepare\(teacher, student\)"):
        mapped("learned")(Families(TEACHER), Families(LESS), batch_size=4)


def test_another_teacher_is_told() -> None:
    objective = mapped("arrange")
    objective(Families(TEACHER), Families(LESS), batch_size=4)
    with pytest.raises(MatchError, match="not those that the noise map was made for"):
        objective(Families(LESS), Families(LESS), batch_size=4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("again", [copy.deepcopy, lambda objective: pickle.loads(pickle.dumps(objective))])
def test_a_learned_map_that_was_trained_can_be_copied_and_pickled(again, dtype: torch.dtype) -> None:
    teacher, student = (
        LinearGaussian([["z", "latent", size, []], ["y", "target", 2, ["z"]]]).to(dtype) for size in (4, 3)
    )
    objective = mapped("learned")
    objective.prepare(teacher, student)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn_like(parameter))
    copied = again(objective.eval())
    assert repr(copied) == repr(objective)
    assert not any(module.training for module in copied.modules())
    theirs, own = objective.state_dict(), copied.state_dict()
    assert list(theirs) == list(own)
    assert all(torch.equal(theirs[name], own[name]) and theirs[name].dtype == own[name].dtype for name in own)
    losses = [
        each(teacher, student, batch_size=8, generator=torch.Generator().manual_seed(0)).total
        for each in (objective, copied)
    ]
    assert torch.equal(*losses)
    losses[1].backward()
    assert all(parameter.grad is not None for parameter in copied.parameters())
    assert all(parameter.grad is None for parameter in objective.parameters())
