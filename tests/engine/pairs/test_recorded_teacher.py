"""A recorded teacher in the place of the real one: what it replays, and students that learn from it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import limbeck
from limbeck import methods
from limbeck.core.coupling import MappedNoise
from limbeck.core.graph import DGM
from limbeck.core.objective import Match, Objective
from limbeck.core.reparam import Law
from limbeck.core.sites import Sites
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_NOTHING, Kind, Site, Trace
from limbeck.engine import Pairs, RecordedTeacher, record
from limbeck.engine.evaluations.evaluation import Subject
from limbeck.engine.experiments.recipe import Baseline, Recipe
from limbeck.engine.experiments.stage_keys import student_key
from limbeck.engine.settings.options import Training
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.training.fit import fit
from limbeck.engine.training.module import StudentModule
from limbeck.errors import MatchError, ModelError, RecipeError
from tests.sampler import Sampler
from tests.tiny import Quick, QuickJudge, Spots, Tiny, built, call, counted, hashes, in_child, write_recipe

PAGE = 4


def pairs(**changes: Any) -> Pairs:
    return Pairs(**{"count": 64, "page_rows": PAGE, "shard_rows": 16, "batch_size": 16, "dtype": "float32"} | changes)


def recorded(directory: Path, teacher: Sampler | None = None, **changes: Any) -> RecordedTeacher:
    arguments = {key: changes.pop(key) for key in ("seed", "inputs") if key in changes}
    return record(built(Sampler) if teacher is None else teacher, pairs(**changes), directory, **arguments)


def options(**changes: Any) -> Training:
    return Training(**{"steps": 12, "batch_size": 8, "learning_rate": 0.01, "log_every": 4} | changes)


def numbers(teacher: RecordedTeacher) -> Tensor:
    with teacher.reading(0, len(teacher)) as x:
        return teacher.trace(None if x is not None else len(teacher), x)["x_T"].noise.flatten(1)


def places(rows: Tensor, among: Tensor) -> list[int]:
    """Which rows of ``among`` these are."""
    return [int((among == row).all(1).nonzero().item()) for row in rows.flatten(1)]


class TestRuns:
    def test_like_those_of_the_teacher(self, tmp_path: Path) -> None:
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

    def test_target_is_drawn_from_its_law(self, tmp_path: Path) -> None:
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

    def test_only_what_is_kept(self, tmp_path: Path) -> None:
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

    def test_copies_in_another_precision(self, tmp_path: Path) -> None:
        replayed = recorded(tmp_path, dtype="uint8")
        found = copy.deepcopy(replayed).double().trace(4)
        assert {found["x_0"].value.dtype, found["x_T"].noise.dtype} == {torch.float64}
        assert replayed.trace(4)["x_0"].value.dtype == torch.float32

    def test_state_that_is_not_stored(self, tmp_path: Path) -> None:
        match = Match("x[*]", divergence=limbeck.divergence.mean_lp, kind=Kind.DETERMINISTIC)
        with pytest.raises(ModelError, match=r"no state 'x\[2\]'.* add it to pairs\.states \(now: x\[1\]\)"):
            Objective([match])(recorded(tmp_path, states=["x[1]"]), built(Sampler, seed=1), batch_size=4)

    def test_unknown_site_is_told_by_name(self, tmp_path: Path) -> None:
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

    def test_none(self, tmp_path: Path) -> None:
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

    def test_training(self, tmp_path: Path) -> None:
        student = built(Sampler, seed=1, classes=3)
        teacher = self.conditioned(tmp_path)
        before = weights_fingerprint(student)
        found = fit(student, methods.surrogate(0.0), options(steps=60, learning_rate=0.05), teacher=teacher)
        assert weights_fingerprint(student) != before
        assert found.history.rows[-1]["total"] < 0.5 * found.history.rows[0]["total"]
        assert len(teacher.source.runs) < 10


class InMemory(DGM):
    """The same pairs as tensors, read without any of the code under test."""

    def __init__(self, noise: Tensor, means: Tensor) -> None:
        super().__init__()
        self.register_buffer("noise", noise)
        self.register_buffer("means", means)

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        raise NotImplementedError

    def trace(self, batch_size: int, x: Tensor | None = None, **_: Any) -> Trace:  # type: ignore[override]
        pages = torch.randint(len(self.noise) // PAGE, (batch_size // PAGE,))
        rows = (pages[:, None] * PAGE + torch.arange(PAGE)).flatten()
        mean, noise = self.means[rows], self.noise[rows]
        law = Normal(mean, torch.full_like(mean, 0.5))
        latent = Site("x_T", Kind.LATENT, Law.NORMAL, Normal(0 * noise, 1 + 0 * noise), noise, noise)
        target = Site("x_0", Kind.TARGET, Law.NORMAL, law, mean + 0.5 * torch.randn_like(mean))
        return Trace({"x_T": latent, "x_0": target}, batch_size, ["x_T", "x_0"])


class TestTraining:
    def student(self, teacher: DGM, objective: Objective | None = None, **changes: Any) -> DGM:
        student = built(Sampler, seed=1, steps=1)
        fit(student, objective or methods.surrogate(0.0), options(**changes), teacher=teacher)
        return student

    def test_same_as_from_memory(self, tmp_path: Path) -> None:
        teacher = built(Sampler)
        replayed = recorded(tmp_path, teacher)
        noise = numbers(replayed).view(-1, 1, 4, 4)
        with torch.no_grad():
            parts = [teacher.trace(noise={"x_T": part})["x_0"].distribution.mean for part in noise.split(16)]
        assert weights_fingerprint(self.student(replayed)) == weights_fingerprint(
            self.student(InMemory(noise, torch.cat(parts)))
        )

    def test_teacher_does_not_run(self, tmp_path: Path) -> None:
        teacher = built(Sampler)
        replayed = recorded(tmp_path, teacher)
        ran = len(teacher.runs)
        self.student(replayed)
        assert len(teacher.runs) == ran

    def test_states_are_matched(self, tmp_path: Path) -> None:
        matches = [
            Match(kind=Kind.TARGET),
            Match("x[*]", divergence=limbeck.divergence.mean_lp, kind=Kind.DETERMINISTIC),
        ]
        student = built(Sampler, seed=1)
        teacher = recorded(tmp_path, states=["x[*]"])
        found = fit(student, Objective(matches), options(steps=80, learning_rate=0.05), teacher=teacher)
        assert found.history.rows[-1]["x[*]"] < 0.3 * found.history.rows[0]["x[*]"]

    def test_other_couplings(self, tmp_path: Path) -> None:
        self.student(recorded(tmp_path), Objective([Match(kind=Kind.TARGET)], MappedNoise()))
        self.student(recorded(tmp_path), methods.local())

    def test_continues_bit_for_bit(self, tmp_path: Path) -> None:
        replayed = recorded(tmp_path / "pairs")
        expected = weights_fingerprint(self.student(replayed))

        def run() -> DGM:
            student = built(Sampler, seed=1, steps=1)
            settings = options(checkpoint_every=3)
            fit(student, methods.surrogate(0.0), settings, teacher=replayed, directory=tmp_path / "run")
            return student

        def victim() -> None:
            StudentModule.training_step = counted(StudentModule.training_step, 8)  # type: ignore[method-assign]
            run()

        assert in_child(victim) == -9
        assert weights_fingerprint(run()) == expected

    def test_distill(self, tmp_path: Path) -> None:
        teacher = built(Sampler)
        told: dict[str, Any] = {"training": options(), "progress": False, "objective": methods.surrogate(0.0)}
        first = limbeck.distill(teacher, built(Sampler, seed=1), pairs=pairs(), directory=tmp_path / "out", **told)
        ran = len(teacher.runs)
        second = limbeck.distill(
            teacher, built(Sampler, seed=1), pairs=pairs(), cache=tmp_path / "out" / "pairs", **told
        )
        assert weights_fingerprint(first.student) == weights_fingerprint(second.student)
        assert len(teacher.runs) == ran
        given = recorded(tmp_path / "other", teacher)
        third = limbeck.distill(given, built(Sampler, seed=1), **told)
        assert third.metrics["total"] == pytest.approx(first.metrics["total"], rel=0.5)
        with pytest.raises(RecipeError, match="pairs are kept on disk: give a directory, or cache="):
            limbeck.distill(teacher, built(Sampler, seed=1), pairs=pairs(), **told)


PARTS: Mapping[str, Any] = {
    "title": "Sampler",
    "teacher": {"class_path": "tests.sampler.Sampler", "init_args": {"steps": 6}},
    "student": {"class_path": "tests.sampler.Sampler", "init_args": {"steps": 1}},
    "objective": {"class_path": "limbeck.methods.surrogate", "init_args": {"latent_weight": 0.0}},
    "data": None,
    "teacher_training": None,
    "evaluation": {"class_path": "tests.engine.pairs.test_recorded_teacher.Brightness"},
    "baselines": {
        "fresh": {
            "objective": {"class_path": "limbeck.methods.surrogate", "init_args": {"latent_weight": 0.0}},
            "pairs": False,
        }
    },
    "pairs": {"count": 64, "held_out": 8, "page_rows": 4, "shard_rows": 16, "dtype": "uint8", "states": ["x[1]"]},
}


class Brightness(Quick):
    """Mean of a few pictures."""

    def judge(self, *arguments: Any) -> BrightnessJudge:
        return BrightnessJudge(self.samples, 0)

    def dry(self) -> Brightness:
        return Brightness(2)


class BrightnessJudge(QuickJudge):
    def measure(self, subject: Subject) -> dict[str, float]:
        generator = torch.Generator().manual_seed(self.seed)
        return {"brightness": subject.model.sample(4, generator=generator, output="mean")["x_0"].mean().item()}


class TestRecipes:
    def test_run(self, tmp_path: Path) -> None:
        path = write_recipe(tmp_path, "sampler", **PARTS)
        command = ("run", path, f"--output={tmp_path / 'runs'}", "--training.validate_every=4")
        assert call(*command) == 0
        stores = list((tmp_path / "runs" / "cache" / "pairs").iterdir())
        assert len(stores) == 1
        run = tmp_path / "runs" / "sampler" / "default"
        before = hashes(run)
        assert len(before) == 3
        results = json.loads((run / "metrics.json").read_text())
        assert any(
            "64 pairs of noise and result once, stored as uint8; surrogate learned" in n for n in results["notes"]
        )
        assert "pairs: 72 pairs" in (run / "log.txt").read_text()
        assert "best on unseen pairs" in (run / "log.txt").read_text()
        # Everything is there: nothing is asked of the pairs.
        for file in stores[0].iterdir():
            file.unlink()
        assert call(*command) == 0
        assert not list(stores[0].iterdir())
        assert hashes(run) == before

    def test_dry_run(self, tmp_path: Path) -> None:
        path = write_recipe(tmp_path, "sampler", **PARTS)
        assert call("run", path, f"--output={tmp_path / 'runs'}", "--dry-run", "--pairs.count=1000000") == 0
        sizes = [f.stat().st_size for f in (tmp_path / "runs" / "cache" / "pairs").rglob("*.safetensors")]
        assert sum(sizes) < 100_000

    def test_identity(self) -> None:
        def key(method: str = "surrogate", **changes: Any) -> str:
            baselines = {"fresh": Baseline(methods.surrogate(), pairs=False)}
            toy = Recipe("toy", Sampler(), Sampler(), methods.surrogate(), Quick(), data=Spots(), **{
                "baselines": baselines, "training": options(), "pairs": pairs()} | changes)  # fmt: skip
            return student_key(toy, method, 0, "teacher", "rows")

        plain = key(pairs=None)
        assert key("fresh") == plain
        assert len({plain, key(), key(pairs=pairs(count=65)), key(pairs=pairs(held_out=4))}) == 4
        assert key(pairs=pairs(workers=2)) == key()

    def test_steps_of_a_run(self) -> None:
        toy = Recipe("toy", Sampler(), Sampler(), methods.surrogate(), Quick(), data=Spots(), training=options(),
                     teacher_training=options(steps=5), pairs=pairs())  # fmt: skip
        assert toy.total_steps(1) == 5 + 4 + 12

    def test_tasks_are_refused(self) -> None:
        with pytest.raises(RecipeError, match="pairs belong to one teacher, but with tasks"):
            Recipe("toy", Tiny(), Tiny(), methods.surrogate(), Quick(), data=Spots(), tasks="labels", pairs=pairs())
