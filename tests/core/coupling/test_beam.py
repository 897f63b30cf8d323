"""Beam search against enumeration, and the coupling that feeds both models with what it finds."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Independent

from limbeck.core.coupling import BeamTargets
from limbeck.core.coupling.beam import beam_search
from limbeck.core.delta import Delta
from limbeck.core.divergence import nll
from limbeck.core.graph import DGM
from limbeck.core.objective import Match, Objective
from limbeck.core.sites import Sites
from limbeck.core.trace import Kind
from limbeck.errors import MatchError, SiteError
from limbeck.models import Autoregressive
from tests.zoo import BY_NAME


class Trap(DGM):
    """The best first token leads to worse sequences: 0.6 times one half is below 0.4 times 0.9."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.tensor([0.6, 0.4]).log()
        self.second = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        first = sites.target("a", Categorical(logits=self.first.expand(sites.batch_size, 2)))
        sites.target("b", Categorical(logits=self.second[first]))


class Wrapped(Trap):
    """The same law with the batch declared in another way."""

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        first = sites.target("a", Independent(Categorical(logits=self.first.expand(sites.batch_size, 2)), 0))
        sites.target("b", Categorical(logits=self.second[first]))


class TwoBits(DGM):
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        sites.target("y", Bernoulli(logits=sites.zeros(2)))


def writer(seed: int = 0, length: int = 4, tokens: int = 3, width: int = 6) -> Autoregressive:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Autoregressive(length, tokens, inputs=2, width=width, embedding=3).double()
        for parameter in model.parameters():
            parameter.data *= 2.0
    return model


def every_sequence(model: Autoregressive, x: Tensor) -> tuple[Tensor, Tensor]:
    """All sequences, shape (count, length), and the log-probability of each, shape (rows, count)."""
    sequences = torch.tensor(list(itertools.product(range(3), repeat=4)))
    scores = []
    for sequence in sequences:
        y = sequence.expand(len(x), 4)
        log_p = torch.log_softmax(model.logits(y, x), -1)
        scores.append(log_p.gather(2, y[:, :, None]).sum((1, 2)))
    return sequences, torch.stack(scores, dim=1)


@pytest.mark.parametrize("kind", [Trap, Wrapped])
def test_a_beam_sees_further_than_greed(kind: type[DGM]) -> None:
    greedy, score = beam_search(kind(), 1, batch_size=2)
    assert greedy["a"].tolist() == [0, 0]
    assert score.exp().tolist() == pytest.approx([0.3, 0.3])
    best, score = beam_search(kind(), 2, batch_size=2)
    assert (best["a"].tolist(), best["b"].tolist()) == ([1, 1], [1, 1])
    assert score.exp().tolist() == pytest.approx([0.36, 0.36])


@torch.no_grad()
def test_a_full_beam_is_the_mode() -> None:
    model, x = writer(), torch.randn(20, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sequences, scores = every_sequence(model, x)
    best, score = beam_search(model, 81, x=x)
    assert list(best) == ["y[0]", "y[1]", "y[2]", "y[3]"]
    found = torch.stack(list(best.values()), dim=1)
    assert torch.equal(found, sequences[scores.argmax(1)])
    assert len(found.unique(dim=0)) > 1
    torch.testing.assert_close(score, scores.max(1).values)


@torch.no_grad()
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_score_is_the_probability_of_its_sequence(size: int) -> None:
    model, x = writer(), torch.randn(20, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    best, score = beam_search(model, size, x=x)
    torch.testing.assert_close(score, model.trace(x=x, values=best).log_prob(Kind.TARGET))
    assert (score <= every_sequence(model, x)[1].max(1).values + 1e-12).all()


def test_searching_draws_nothing() -> None:
    state = torch.get_rng_state()
    beam_search(writer(), 2, x=torch.zeros(3, 2, dtype=torch.float64))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", ["bits", "classifier"])
def test_latents_are_refused(name: str) -> None:
    entry = BY_NAME[name]
    with pytest.raises(SiteError, match=r"'z2?' is a latent"):
        beam_search(entry.pair()[0], 2, **entry.rows(3))


def test_targets_that_are_not_one_category_are_refused() -> None:
    with pytest.raises(SiteError, match=r"'y' is a target with Bernoulli law of shape \(1, 2\)"):
        beam_search(TwoBits(), 2, batch_size=3)
    with pytest.raises(SiteError, match=r"how many rows"):
        beam_search(Trap(), 2)


def test_the_coupling_gives_point_masses_at_the_beam() -> None:
    teacher, student = writer(0).train(), writer(1, width=3)
    x = torch.zeros(5, 2, dtype=torch.float64)
    objective = Objective([Match("y[*]", divergence=nll)], BeamTargets(2))
    seen = []
    objective.matches[0].__dict__["divergence"] = lambda p, q: (seen.append((p, q)), nll(p, q))[1]
    objective(teacher, student, x=x)
    best, _ = beam_search(teacher, 2, x=x)
    ((p, q),) = seen  # of all steps at once
    steps = len(best)
    assert isinstance(p, Delta)
    assert torch.equal(p.value, torch.cat([best[f"y[{step}]"] for step in range(steps)]))
    learned = student.trace(x=x, values=best)
    expected = torch.cat([learned[f"y[{step}]"].distribution.logits for step in range(steps)])
    torch.testing.assert_close(q.logits, expected)
    assert teacher.training
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_coupling_renames() -> None:
    class Other(Trap):
        def generate(self, sites: Sites, x: Tensor | None = None) -> None:
            first = sites.target("c", Categorical(logits=self.first.expand(sites.batch_size, 2)))
            sites.target("d", Categorical(logits=self.second[first]))

    loss = Objective([Match({"a": "c", "b": "d"}, divergence=nll)], BeamTargets(2))(Trap(), Other(), batch_size=3)
    assert loss.total.exp().item() == pytest.approx(1 / 0.36)


def rows(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss(coupling: BeamTargets, teacher: DGM, student: DGM, x: Tensor) -> float:
    return Objective([Match("y[*]", divergence=nll)], coupling)(teacher, student, x=x).total.item()


def test_what_is_remembered_is_what_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student, x = writer(0), writer(1), rows(12)
    expected = loss(BeamTargets(3, remember=0), teacher, student, x)
    assert loss(BeamTargets(3, remember=0), teacher, student, x.flip(0)[:4]) != expected
    coupling = BeamTargets(3)
    searched = []
    monkeypatch.setattr(
        "limbeck.core.coupling.beam.beam_search",
        lambda model, size, **given: (searched.append(len(given["x"])), beam_search(model, size, **given))[1],
    )
    assert loss(coupling, teacher, student, x[:5]) == loss(coupling, teacher, student, x[:5])
    assert loss(coupling, teacher, student, x.roll(3, 0)) == pytest.approx(expected, rel=1e-12)
    assert loss(coupling, teacher, student, x[[0, 0, 11, 11]]) > 0
    assert searched == [5, 7]  # every row once, whatever batch it comes in


def test_another_teacher_is_searched_anew() -> None:
    teacher, other, student, x = writer(0), writer(5), writer(1), rows(12)
    coupling = BeamTargets(3)
    first = loss(coupling, teacher, student, x)
    assert loss(coupling, other, student, x) == loss(BeamTargets(3), other, student, x) != first
    assert loss(coupling, teacher, student, x) == first
    teacher.load_state_dict(other.state_dict())
    assert loss(coupling, teacher, student, x) == loss(BeamTargets(3), other, student, x)


def test_memory_is_bounded_and_not_copied() -> None:
    teacher, student = writer(0), writer(1)
    coupling = BeamTargets(2, remember=10)
    for seed in range(5):
        loss(coupling, teacher, student, rows(8, seed))
        assert len(coupling._memory.found) <= 16
    assert coupling == BeamTargets(coupling.beam_size, coupling.remember)
    assert "memory" not in repr(coupling).lower()
    for copied in (copy.deepcopy(coupling), pickle.loads(pickle.dumps(coupling))):
        assert not copied._memory.found
        assert copied == coupling == BeamTargets(2, remember=10)


def test_rows_of_a_number_type_that_numpy_lacks_are_remembered() -> None:
    teacher, student, x = writer(0).bfloat16(), writer(1).bfloat16(), rows(4).bfloat16()
    coupling = BeamTargets(2)
    assert loss(coupling, teacher, student, x) == loss(coupling, teacher, student, x)
    assert len(coupling._memory.found) == len(x)


def test_an_empty_beam_is_refused() -> None:
    with pytest.raises(MatchError, match=r"at least 1, not 0"):
        BeamTargets(0)
