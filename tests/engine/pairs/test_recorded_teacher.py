"""A recorded teacher in the place of the real one: what it replays, and what it refuses."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

import limbeck
from limbeck.core.objective import Match, Objective
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_NOTHING, Kind
from limbeck.engine import RecordedTeacher
from limbeck.errors import MatchError, ModelError
from tests.engine.pairs.recordings import PAGE
from tests.engine.pairs.replays import numbers, places, recorded
from tests.sampler import Sampler
from tests.tiny import built


class TestRuns:
    def test_replayed_runs_are_like_those_of_the_teacher(self, tmp_path: Path) -> None:
        teacher = built(Sampler)
        found = recorded(tmp_path, teacher, states=["x[*]"]).trace(10)
        real = teacher.trace(noise={"x_T": found["x_T"].noise})
        assert found.batch_size == 10
        assert (list(found), list(found.declared)) == (list(real), list(real.declared))
        for name, site in real.items():
            replayed = found[name]
            assert (replayed.kind, replayed.law) == (site.kind, site.law)
            assert type(replayed.distribution) is type(site.distribution)
            assert torch.allclose(replayed.distribution.mean, site.distribution.mean, rtol=1e-3, atol=1e-3)

    def test_a_target_is_drawn_from_its_law(self, tmp_path: Path) -> None:
        found = recorded(tmp_path, count=800, shard_rows=800).trace(2000)["x_0"]
        assert torch.allclose(found.value, found.distribution.mean + 0.5 * found.noise)
        assert abs(found.noise.std() - 1) < 0.02

    def test_rows_come_from_the_generator(self, tmp_path: Path) -> None:
        teacher = recorded(tmp_path)
        for seeds, same in (((1, 1), True), ((1, 2), False)):
            drawn = [teacher.trace(20, generator=torch.Generator().manual_seed(s))["x_T"].noise for s in seeds]
            assert torch.equal(*drawn) == same
        torch.manual_seed(1)
        assert torch.equal(
            teacher.trace(20)["x_T"].noise,
            teacher.trace(20, generator=torch.Generator().manual_seed(1))["x_T"].noise,
        )

    @pytest.mark.parametrize("size", [3, 4, 6])
    def test_every_row_is_drawn_equally_often(self, tmp_path: Path, size: int) -> None:
        teacher = recorded(tmp_path, count=16)
        every = numbers(teacher)
        torch.manual_seed(0)
        seen = torch.bincount(
            torch.tensor([place for _ in range(800) for place in places(teacher.trace(size)["x_T"].noise, every)]),
            minlength=16,
        )
        expected = 800 * size / 16
        assert ((seen - expected).abs() < 6 * (PAGE * expected) ** 0.5).all()

    def test_only_what_is_asked_for_is_kept(self, tmp_path: Path) -> None:
        teacher = recorded(tmp_path, states=["x[1]"])

        def keep(name: str, kind: Kind) -> int:
            return KEEP_DISTRIBUTION if name in ("x_0", "x[1]") else KEEP_NOTHING

        found = teacher.trace(8, keep=keep)
        assert list(found) == ["x[1]", "x_0"]
        assert found["x_0"].value is None

    def test_given_noise_is_the_real_teachers_matter(self, tmp_path: Path) -> None:
        teacher = built(Sampler)
        replayed = recorded(tmp_path, teacher)
        noise = {"x_T": torch.zeros(3, 1, 4, 4), "x_0": torch.zeros(3, 1, 4, 4)}
        assert torch.equal(replayed.trace(noise=noise)["x_0"].value, teacher.trace(noise=noise)["x_0"].value)
        ran = len(teacher.runs)
        replayed.trace(4)
        replayed.sample(4, output="mean")
        assert len(teacher.runs) == ran
        replayed.sample(4, temperature=0.5)
        assert len(teacher.runs) == ran + 1

    def test_copies_replay_in_another_precision(self, tmp_path: Path) -> None:
        replayed = recorded(tmp_path, dtype="uint8")
        found = copy.deepcopy(replayed).double().trace(4)
        assert {found["x_0"].value.dtype, found["x_T"].noise.dtype} == {torch.float64}
        assert replayed.trace(4)["x_0"].value.dtype == torch.float32

    def test_a_state_that_is_not_stored_is_named(self, tmp_path: Path) -> None:
        match = Match("x[*]", divergence=limbeck.divergence.mean_lp, kind=Kind.DETERMINISTIC)
        with pytest.raises(ModelError, match=r"no state 'x\[2\]'.* add it to pairs\.states \(now: x\[1\]\)"):
            Objective([match])(recorded(tmp_path, states=["x[1]"]), built(Sampler, seed=1), batch_size=4)

    def test_an_unknown_site_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(MatchError, match=r"the teacher's sites: x_T, x\[2\], x\[1\], x_0"):
            Objective([Match("z")])(recorded(tmp_path), built(Sampler, seed=1), batch_size=4)

    def test_what_needs_the_network_is_the_source(self, tmp_path: Path) -> None:
        teacher = built(Sampler)
        assert recorded(tmp_path, teacher).source is teacher


class TestHeldOut:
    def test_disjoint_and_stays_when_the_store_grows(self, tmp_path: Path) -> None:
        few, many = (recorded(tmp_path, count=count, held_out=8) for count in (16, 40))
        assert (len(few), len(few.held_out), len(many)) == (16, 8, 40)
        assert torch.equal(numbers(few.held_out), numbers(many.held_out))
        assert torch.equal(numbers(few), numbers(many)[:16])
        together = torch.cat([numbers(many), numbers(many.held_out)])
        assert len(torch.unique(together, dim=0)) == 48

    def test_training_never_reads_it(self, tmp_path: Path) -> None:
        teacher = recorded(tmp_path, count=16, held_out=16)
        every = numbers(teacher)
        for _ in range(50):
            assert len(places(teacher.trace(6)["x_T"].noise, every)) == 6

    def test_without_held_out_pairs_there_are_none(self, tmp_path: Path) -> None:
        assert recorded(tmp_path).held_out is None

    def test_reading_in_order(self, tmp_path: Path) -> None:
        teacher = recorded(tmp_path, count=16, held_out=4)
        with teacher.reading(3, 10):
            part = teacher.trace(7)["x_T"].noise.flatten(1)
        assert torch.equal(part, numbers(teacher)[3:10])
        assert not torch.equal(teacher.trace(7)["x_T"].noise.flatten(1), part)


class TestInputs:
    def conditioned(self, directory: Path) -> RecordedTeacher:
        return recorded(directory, built(Sampler, classes=3), inputs=torch.eye(3))

    def test_chosen_rows_are_replayed_with_their_input(self, tmp_path: Path) -> None:
        teacher = self.conditioned(tmp_path)
        x = teacher.choose(10)
        found = teacher.trace(x=x)
        again = teacher.source.trace(x=x, noise={"x_T": found["x_T"].noise})
        assert torch.allclose(found["x_0"].distribution.mean, again["x_0"].distribution.mean, atol=1e-5)
        assert torch.equal(teacher.trace(x=x.clone())["x_T"].noise, found["x_T"].noise)

    def test_other_inputs_are_refused(self, tmp_path: Path) -> None:
        teacher = self.conditioned(tmp_path)
        for x in (None, torch.eye(3)):
            with pytest.raises(ModelError, match=r"take x = teacher\.choose\(batch_size\), then pass x=x"):
                teacher.trace(3, x)
