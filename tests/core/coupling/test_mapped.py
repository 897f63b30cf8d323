"""Mapped noise has exactly the student's law, whatever the map, and the coupling says what it cannot do."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, Laplace, Normal, Uniform

from limbeck.core import methods
from limbeck.core.coupling import MappedNoise, Preparable, Request
from limbeck.core.coupling.noise_layout import NoiseLayout
from limbeck.core.divergence import kl
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.methods import mapped, own_bound
from limbeck.core.objective import Match, Objective
from limbeck.core.sites import Sites
from limbeck.core.trace import KEEP_ALL, Kind, Trace
from limbeck.engine.settings.options import Training
from limbeck.engine.training.fit import fit
from limbeck.errors import MatchError
from limbeck.models import LadderVAE
from tests.zoo import CHAIN, ZOO, Entry, LinearGaussian, NoisyClassifier, inputs

ROWS = 20_000
KINDS = ["arrange", "position", "random", "learned"]


class Families(DGM):
    """Latents of the asked families and sizes, and a Gaussian target that sees them all."""

    def __init__(self, latents: dict[str, tuple[str, int]]) -> None:
        super().__init__()
        self.latents = latents
        self.weight = torch.nn.Parameter(torch.ones(2))

    def generate(self, sites: Sites, x: torch.Tensor | None = None) -> None:
        total = sites.zeros(1)
        for name, (family, size) in self.latents.items():
            zeros = sites.zeros(size)
            law = {"normal": Normal(zeros, 1.0), "laplace": Laplace(zeros, 1.0), "uniform": Uniform(zeros, zeros + 1),
                   "categorical": Categorical(logits=zeros)}[family]  # fmt: skip
            total = total + sites.latent(name, law).reshape(sites.batch_size, -1).to(zeros.dtype).sum(1, keepdim=True)
        sites.target("y", Normal(self.weight * total, 1.0))


TEACHER = {"a": ("normal", 2), "b": ("laplace", 2), "c": ("categorical", 3)}
LESS = {"u": ("uniform", 2), "v": ("normal", 3)}
AS_MANY = {"u": ("uniform", 2), "k": ("categorical", 3), "v": ("normal", 2)}
MORE = {"u": ("uniform", 3), "k": ("categorical", 4), "v": ("normal", 3)}
CDF = {"uniform": "uniform", "normal": "norm", "laplace": "uniform", "categorical": "gumbel_r"}


def run(coupling: MappedNoise, teacher: DGM, student: DGM, rows: int = ROWS, **request) -> tuple[Trace, Trace]:
    def keep(name: str, kind: Kind) -> int:
        return KEEP_ALL

    generator = torch.Generator().manual_seed(1)
    asked = Request(rows, None, keep, lambda taught: keep, lambda name, kind: name, generator, **request)
    with torch.no_grad():
        return coupling(teacher, student, asked)


def turned(coupling: MappedNoise, teacher: DGM, student: DGM) -> MappedNoise:
    """Prepared and, where it is learned, away from where it began."""
    coupling.prepare(teacher, student)
    with torch.no_grad():
        for parameter in coupling.parameters():
            if parameter.requires_grad:
                parameter.normal_(generator=torch.Generator().manual_seed(2)).mul_(parameter.shape[-1])
    return coupling


# --------------------------------------------------------------------------------------------------------------- law


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("latents", [LESS, AS_MANY, MORE], ids=["less", "as many", "more"])
def test_the_students_noise_has_its_own_law(kind: str, latents: dict) -> None:
    teacher, student = Families(TEACHER).double(), Families(latents).double()
    _, learned = run(turned(MappedNoise(kind), teacher, student), teacher, student)
    columns = []
    for name, (family, _) in latents.items():
        noise = learned[name].noise
        for column in noise.flatten(1).T.numpy():
            assert stats.kstest(column, CDF[family]).pvalue > 1e-4, name
            columns.append(stats.norm.ppf(getattr(stats, CDF[family]).cdf(column)))
    z = np.stack(columns)
    off = ~np.eye(len(z), dtype=bool)
    # Jointly normal, so uncorrelated would do; squares too would show a map that depends on the noise.
    for power in (1, 2):
        assert np.abs(np.corrcoef(z**power)[off]).max() < 4.5 / np.sqrt(ROWS)
    assert stats.kstest((z**2).sum(0), stats.chi2(len(z)).cdf).pvalue > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_the_noise_is_the_teachers_where_there_is_room(kind: str) -> None:
    """A rotation keeps lengths: nothing is lost, and nothing is added but in the places that are left."""
    teacher, student = Families(TEACHER).double(), Families(MORE).double()
    coupling = turned(MappedNoise(kind), teacher, student)
    taught, learned = run(coupling, teacher, student, 50)
    one = NoiseLayout.of(teacher).flatten({name: taught[name].noise for name in TEACHER})
    two = NoiseLayout.of(student).flatten({name: learned[name].noise for name in MORE})
    places = coupling.noise_map.places
    torch.testing.assert_close(two[:, places].square().sum(1), one.square().sum(1), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(two[:, places] @ coupling.noise_map.matrix, one, rtol=1e-6, atol=1e-6)
    assert len(places) == 7


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


# --------------------------------------------------------------------------------------------------------- the module


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


def test_conditional_models_of_any_precision() -> None:
    torch.manual_seed(0)
    teacher, student = NoisyClassifier(8).double().eval(), NoisyClassifier(3).double()
    for kind in KINDS:
        objective = mapped(kind)
        objective.prepare(teacher, student, inputs(4, torch.float64))
        objective(teacher, student, x=inputs(16, torch.float64)).backward()
        assert objective.coupling.noise_map.matrix.dtype == torch.float64
    mapped("random")(teacher, student, x=inputs(16, torch.float64))  # fixed maps prepare themselves


def test_the_same_model_with_the_same_latents_is_sharing_by_name() -> None:
    torch.manual_seed(0)
    teacher, student = LinearGaussian(CHAIN).double(), LinearGaussian(CHAIN).double()
    losses = [
        objective(teacher, student, batch_size=32, generator=torch.Generator().manual_seed(5)).total.item()
        for objective in (methods.surrogate(0.0), mapped("arrange"), mapped("position"))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert losses[0] == pytest.approx(losses[2], rel=1e-12)
    assert mapped("position")(teacher, copy.deepcopy(teacher), batch_size=32).total.item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("entry", [entry for entry in ZOO if entry.name != "drawings"], ids=lambda entry: entry.name)
@pytest.mark.parametrize("kind", ["arrange", "position"])
def test_every_model_shares_noise_with_a_student_of_its_own_kind(entry: Entry, kind: str) -> None:
    """Where latents do correspond, the map is the identity, whatever their laws, and a copy has nothing to learn.

    Not for drawings: they end when the pen does, and a map needs one number of latents in all runs.
    """
    teacher, student = entry.pair(dtype=torch.float64)
    rows = entry.rows(8, torch.float64)
    if not teacher.trace(**rows).of_kind(Kind.LATENT):
        with pytest.raises(MatchError, match="at least one of each"):
            mapped(kind, target=entry.target)(teacher, student, **rows)
        return
    losses = []
    for objective in (methods.surrogate(0.0, target=entry.target), mapped(kind, target=entry.target)):
        torch.manual_seed(2)
        losses.append(objective(teacher, copy.deepcopy(student), **rows).total.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[0] > 1e-6
    exact = mapped(kind, target=entry.target)(*entry.copies(dtype=torch.float64), **rows).total.item()
    assert exact == pytest.approx(0.0, abs=1e-6)


def test_targets_may_be_renamed() -> None:
    torch.manual_seed(0)
    teacher, student = LinearGaussian(CHAIN), LinearGaussian([["c", "latent", 4, []], ["out", "target", 3, ["c"]]])
    objective = Objective([Match("y", "out", kl, kind=Kind.TARGET)], MappedNoise("arrange"))
    assert list(objective(teacher, student, batch_size=8).terms) == ["y"]


def test_independent_latents_and_their_draws() -> None:
    teacher, student = Families({"a": ("normal", 2)}), Families({"own": ("normal", 2), "v": ("normal", 2)})
    taught, learned = run(MappedNoise(independent=["own"]), teacher, student, 2000)
    assert torch.equal(learned["v"].noise, taught["a"].noise)
    both = torch.cat([learned["own"].noise, taught["a"].noise], 1).T.numpy()
    assert np.abs(np.corrcoef(both)[:2, 2:]).max() < 4.5 / np.sqrt(2000)
    # Of a student that has more, the last numbers in the order of the program are its own.
    taught, learned = run(MappedNoise("arrange"), teacher, student, 50)
    assert torch.equal(learned["own"].noise, taught["a"].noise)
    assert not torch.equal(learned["v"].noise, taught["a"].noise)


def test_several_draws_share_what_the_teacher_gives() -> None:
    teacher, student = Families({"a": ("normal", 2)}), Families({"v": ("normal", 2), "own": ("normal", 1)})
    seen: list[torch.Tensor] = []
    generate = student.generate

    def spy(sites: Sites, x: torch.Tensor | None = None) -> None:
        generate(sites, x)
        seen.append(torch.cat([sites.trace._sites[name].noise for name in ("v", "own")], 1))

    coupling = MappedNoise("arrange", samples=3)
    coupling.prepare(teacher, student)
    student.generate = spy  # type: ignore[method-assign]
    with pytest.raises(MatchError, match="only targets"):  # everything was asked for
        run(coupling, teacher, student, 5)
    rows = seen[0].reshape(5, 3, 3)
    assert (rows[:, :, :2] == rows[:, :1, :2]).all()
    assert len(rows[:, :, 2].unique()) == 15


# ------------------------------------------------------------------------------------------------------------- errors


def test_a_learned_map_must_be_prepared() -> None:
    with pytest.raises(MatchError, match=r"objective\.prepare\(teacher, student\)"):
        mapped("learned")(Families(TEACHER), Families(LESS), batch_size=4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"map": "mirror"}, "map must be one of arrange, position, random, learned, not 'mirror'"),
        ({"start": "learned"}, "start must be one of arrange, position, random"),
        ({"samples": 0}, "samples must be at least 1, not 0"),
    ],
)
def test_arguments_are_checked(arguments: dict, words: str) -> None:
    with pytest.raises(MatchError, match=words):
        MappedNoise(**arguments)


def test_names_of_latents_are_checked() -> None:
    with pytest.raises(MatchError, match=r"no latent 'z9'; it has: u, v"):
        mapped(independent=["z9"])(Families(TEACHER), Families(LESS), batch_size=4)
    with pytest.raises(MatchError, match="at least one of each"):
        mapped(independent=["u", "v"])(Families(TEACHER), Families(LESS), batch_size=4)


def test_another_teacher_is_told() -> None:
    objective = mapped("arrange")
    objective(Families(TEACHER), Families(LESS), batch_size=4)
    with pytest.raises(MatchError, match="not those that the noise map was made for"):
        objective(Families(LESS), Families(LESS), batch_size=4)


def test_draws_need_one_target() -> None:
    nodes = [["c", "latent", 5, []], ["y", "target", 3, ["c"]], ["w", "target", 1, ["c"]]]
    with pytest.raises(MatchError, match="single target, but y, w"):
        mapped(samples=2)(LinearGaussian(nodes), LinearGaussian(nodes), batch_size=4)


# ------------------------------------------------------------------------------------------------------- the own bound


def test_own_bound_trains_any_latents_encoder_included_and_needs_no_data() -> None:
    torch.manual_seed(0)
    teacher = LadderVAE(8, 1, levels=3, width=4, latent_channels=2).eval()
    student = LadderVAE(8, 1, levels=1, width=3, latent_channels=3)
    objective = own_bound()
    assert objective.needs_teacher
    assert not objective.needs_data
    before = [parameter.detach().clone() for parameter in student.inference_parameters()]
    fit(student, objective, Training(steps=2, batch_size=4), teacher=teacher)
    assert any((a - b).abs().max() > 0 for a, b in zip(before, student.inference_parameters(), strict=True))


def test_own_bound_is_the_students_loss_on_the_teachers_samples() -> None:
    torch.manual_seed(0)
    teacher = LadderVAE(8, 1, levels=3, width=4, latent_channels=2).eval()
    student = LadderVAE(8, 1, levels=2, width=3, latent_channels=2).eval()
    for replay, temperature in (("sample", 1.0), ("mean", 1.0), ("sample", 1.6)):
        torch.manual_seed(3)
        alone = own_bound(replay=replay, temperature=temperature)(teacher, student, batch_size=6)
        torch.manual_seed(3)
        trace = teacher.trace(6, temperature=temperature)
        y = trace["y"].value if replay == "sample" else trace["y"].distribution.mean
        expected = student.loss(Batch(y.detach())).total
        torch.testing.assert_close(alone.total, expected)
    torch.manual_seed(4)
    both = mapped(own_bound_weight=0.5)(teacher, student, batch_size=6)
    assert {name.split("/")[0] for name in both.terms} == {"y", "replay"}
    assert both.total.item() == pytest.approx(sum(term.item() for term in both.terms.values()))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_samples_have_a_positive_temperature(temperature: float) -> None:
    with pytest.raises(MatchError, match="temperature of a teacher's samples must be positive"):
        own_bound(temperature=temperature)


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
