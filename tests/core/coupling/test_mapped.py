"""Mapped noise has exactly the student's law, whatever the map, and the coupling says what it cannot do."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy import stats

from limbeck.core import methods
from limbeck.core.coupling import MappedNoise
from limbeck.core.coupling.noise_layout import NoiseLayout
from limbeck.core.divergence import kl
from limbeck.core.methods import mapped
from limbeck.core.objective import Match, Objective
from limbeck.core.sites import Sites
from limbeck.core.trace import Kind
from limbeck.errors import MatchError
from tests.core.coupling.latent_families import AS_MANY, KINDS, LESS, MORE, ROWS, TEACHER, Families, run, turned
from tests.small_models import CHAIN, LinearGaussian, NoisyClassifier
from tests.zoo import ZOO, Entry, inputs

CDF = {"uniform": "uniform", "normal": "norm", "laplace": "uniform", "categorical": "gumbel_r"}


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


def test_maps_take_the_precision_of_conditional_models() -> None:
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


def test_independent_latents_are_drawn_apart_from_the_teachers_noise() -> None:
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


def test_draws_need_one_target() -> None:
    nodes = [["c", "latent", 5, []], ["y", "target", 3, ["c"]], ["w", "target", 1, ["c"]]]
    with pytest.raises(MatchError, match="single target, but y, w"):
        mapped(samples=2)(LinearGaussian(nodes), LinearGaussian(nodes), batch_size=4)
