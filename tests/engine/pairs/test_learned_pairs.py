"""Students that learn from recorded pairs: by a training, in one call, and in a recipe."""

from __future__ import annotations

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
from limbeck.core.trace import Kind, Site, Trace
from limbeck.engine.evaluations.evaluation import Subject
from limbeck.engine.experiments.recipe import Baseline, Recipe
from limbeck.engine.experiments.stage_keys import student_key
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.training.fit import fit
from limbeck.engine.training.module import StudentModule
from limbeck.errors import RecipeError
from tests.engine.pairs.recordings import PAGE
from tests.engine.pairs.replays import numbers, options, pairs, recorded
from tests.sampler import Sampler
from tests.tiny import Quick, QuickJudge, Spots, Tiny, built, call, counted, hashes, in_child, write_recipe


def test_a_student_learns_from_pairs_of_a_conditioned_teacher(tmp_path: Path) -> None:
    student = built(Sampler, seed=1, classes=3)
    teacher = recorded(tmp_path, built(Sampler, classes=3), inputs=torch.eye(3))
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

    def test_pairs_from_disk_teach_as_pairs_from_memory(self, tmp_path: Path) -> None:
        teacher = built(Sampler)
        replayed = recorded(tmp_path, teacher)
        noise = numbers(replayed).view(-1, 1, 4, 4)
        with torch.no_grad():
            parts = [teacher.trace(noise={"x_T": part})["x_0"].distribution.mean for part in noise.split(16)]
        assert weights_fingerprint(self.student(replayed)) == weights_fingerprint(
            self.student(InMemory(noise, torch.cat(parts)))
        )

    def test_the_teacher_does_not_run(self, tmp_path: Path) -> None:
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

    def test_other_couplings_take_pairs_too(self, tmp_path: Path) -> None:
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

    def test_one_call_records_and_finds_pairs_again(self, tmp_path: Path) -> None:
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
    "evaluation": {"class_path": "tests.engine.pairs.test_learned_pairs.Brightness"},
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
    def test_a_recipe_records_pairs_and_needs_them_no_more_when_done(self, tmp_path: Path) -> None:
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

    def test_a_dry_run_records_few_pairs(self, tmp_path: Path) -> None:
        path = write_recipe(tmp_path, "sampler", **PARTS)
        assert call("run", path, f"--output={tmp_path / 'runs'}", "--dry-run", "--pairs.count=1000000") == 0
        sizes = [f.stat().st_size for f in (tmp_path / "runs" / "cache" / "pairs").rglob("*.safetensors")]
        assert sum(sizes) < 100_000

    def test_pairs_are_part_of_a_students_key_and_workers_are_not(self) -> None:
        def key(method: str = "surrogate", **changes: Any) -> str:
            baselines = {"fresh": Baseline(methods.surrogate(), pairs=False)}
            toy = Recipe("toy", Sampler(), Sampler(), methods.surrogate(), Quick(), data=Spots(), **{
                "baselines": baselines, "training": options(), "pairs": pairs()} | changes)  # fmt: skip
            return student_key(toy, method, 0, "teacher", "rows")

        plain = key(pairs=None)
        assert key("fresh") == plain
        assert len({plain, key(), key(pairs=pairs(count=65)), key(pairs=pairs(held_out=4))}) == 4
        assert key(pairs=pairs(workers=2)) == key()

    def test_steps_of_a_run_count_those_of_recording(self) -> None:
        toy = Recipe("toy", Sampler(), Sampler(), methods.surrogate(), Quick(), data=Spots(), training=options(),
                     teacher_training=options(steps=5), pairs=pairs())  # fmt: skip
        assert toy.total_steps(1) == 5 + 4 + 12

    def test_tasks_are_refused(self) -> None:
        with pytest.raises(RecipeError, match="pairs belong to one teacher, but with tasks"):
            Recipe("toy", Tiny(), Tiny(), methods.surrogate(), Quick(), data=Spots(), tasks="labels", pairs=pairs())
