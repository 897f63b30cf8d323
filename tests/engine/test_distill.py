"""Distillation in one call."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import limbeck
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.stages.progress import Progress
from limbeck.errors import CheckpointError, RecipeError, StorageError
from tests.listening import Recorder
from tests.sampler import Sampler
from tests.tiny import Tiny, built, die, hashes, in_child, rows

TRAINING = Training(steps=10, batch_size=8, checkpoint_every=3, log_every=5, learning_rate=0.01)


def distil(directory: Path | None = None, **changes: Any) -> limbeck.Distilled:
    arguments = {"training": TRAINING, "progress": False, "directory": directory} | changes
    student = arguments.pop("student", None) or built(seed=1, width=3)
    return limbeck.distill(arguments.pop("teacher", built(width=8)), student, **arguments)


class Sharper(Tiny):
    """The same parameters, and another likelihood."""

    @classmethod
    def alike(cls, model: DGM) -> Sharper:
        found = cls(**model.config)
        found.load_state_dict(model.state_dict())
        return found

    def likelihood(self, z: Tensor) -> Normal:
        return Normal(super().likelihood(z).loc, 0.4)


class Killing(Progress):
    def __init__(self, step: int) -> None:
        self.step = step

    def advance(self, step: int, loss: float | None = None) -> None:
        if loss is not None and step >= self.step:
            die()


def test_three_lines(tmp_path: Path) -> None:
    built(width=8).save_pretrained(tmp_path / "teacher")

    teacher = limbeck.DGM.from_pretrained(tmp_path / "teacher")
    student = Tiny(**{**teacher.config, "width": 2})
    limbeck.distill(teacher, student, steps=5, progress=False).student.save_pretrained(tmp_path / "student")

    assert weights_fingerprint(Tiny.from_pretrained(tmp_path / "student")) == weights_fingerprint(student)


def test_result() -> None:
    teacher, student = built(width=8), built(seed=1, width=3)
    before = weights_fingerprint(teacher)
    found = distil(teacher=teacher, student=student)
    assert found.student is student
    assert not student.training
    assert teacher.training
    assert weights_fingerprint(teacher) == before
    assert found.metrics["total"] == found.history.rows[-1]["total"]
    assert found.metrics["parameters_student"] == sum(p.numel() for p in student.generative_parameters())
    assert found.metrics["parameters_teacher"] > found.metrics["parameters_student"]
    assert found.metrics["seconds"] > 0


def test_budget_can_be_given_directly() -> None:
    found = distil(training=None, steps=3, batch_size=4, learning_rate=0.02)
    assert found.history.rows[-1] | {"step": 3, "learning_rate": 0.02} == found.history.rows[-1]


def test_on_data() -> None:
    found = distil(objective=limbeck.methods.joint(0.5), data=rows())
    assert {"train/y", "y"} <= set(found.metrics)


def test_silence(capfd: pytest.CaptureFixture[str]) -> None:
    distil()
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    distil(progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "distilling: 10 steps" in err


class TestDirectory:
    def test_finished_is_not_repeated(self, tmp_path: Path) -> None:
        first = distil(tmp_path / "out")
        assert {path.name for path in (tmp_path / "out").iterdir()} == {
            ".lock", "config.json", "history.csv", "model.safetensors", "training.json"
        }  # fmt: skip
        stamp = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
        again = distil(tmp_path / "out", progress=Killing(0))
        assert weights_fingerprint(again.student) == weights_fingerprint(first.student)
        assert not again.student.training
        assert again.metrics == first.metrics
        assert [row["step"] for row in again.history.rows] == [5, 10]
        assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == stamp

    def test_killed_and_continued(self, tmp_path: Path) -> None:
        def run() -> int:
            distil(tmp_path / "out", training=training, progress=Killing(8))
            return 0

        training = Training(**{**vars(TRAINING), "log_every": 1})
        expected = distil(training=training)
        assert in_child(run) == -9
        assert (tmp_path / "out" / "last.ckpt").exists()
        found = distil(tmp_path / "out", training=training)
        assert weights_fingerprint(found.student) == weights_fingerprint(expected.student)
        assert [row["step"] for row in found.history.rows] == list(range(1, 11))

    def test_other_settings_start_anew_and_keep_the_old(self, tmp_path: Path) -> None:
        first = distil(tmp_path / "out")
        second = distil(tmp_path / "out", seed=1)
        assert weights_fingerprint(second.student) != weights_fingerprint(first.student)
        kept = next(path for path in tmp_path.iterdir() if path.name != "out")
        assert weights_fingerprint(Tiny.from_pretrained(kept)) == weights_fingerprint(first.student)

    @pytest.mark.parametrize(
        "change",
        [
            {"teacher": built(width=8, seed=9)},
            {"objective": limbeck.methods.local()},
            {"training": Training(**{**vars(TRAINING), "learning_rate": 0.02})},
            {"student": built(seed=2, width=3)},
            {"trainer": TrainerOptions(precision="64-true")},
        ],
        ids=["teacher", "objective", "training", "initial student", "precision"],
    )
    def test_what_makes_a_difference(self, tmp_path: Path, change: dict[str, Any]) -> None:
        distil(tmp_path / "out")
        distil(tmp_path / "out", **change)
        assert len(list(tmp_path.iterdir())) == 2

    @pytest.mark.parametrize(
        "change",
        [
            {"data": Batch(1 - rows().y)},
            {"data": Batch(rows().y.to(torch.float64))},
            {"validation": Batch(1 - rows().y)},
            {"teacher_inputs": torch.ones(2, 3)},
            {"teacher": Sharper.alike(built(width=8))},
        ],
        ids=["data", "their type", "validation", "teacher inputs", "settings of the teacher"],
    )
    def test_rows_and_settings_make_a_difference(self, tmp_path: Path, change: dict[str, Any]) -> None:
        """Also those of a teacher, where the weights are the same."""
        training = Training(**{**vars(TRAINING), "validate_every": 5})
        given = {"objective": limbeck.methods.joint(0.5), "data": rows(), "validation": rows(), "training": training}
        for arguments in (given, given | change, given):
            distil(tmp_path / "out", **arguments)
        assert len(list(tmp_path.iterdir())) == 2

    def test_going_back_trains_nothing(self, tmp_path: Path) -> None:
        first = distil(tmp_path / "out")
        distil(tmp_path / "out", seed=1)
        again = distil(tmp_path / "out", progress=Killing(0))
        assert weights_fingerprint(again.student) == weights_fingerprint(first.student)
        assert again.metrics == first.metrics

    def test_a_place_that_is_taken(self, tmp_path: Path) -> None:
        """A second process neither moves what the first is making, nor writes into it."""
        found: list[int] = []

        class Meanwhile(Progress):
            def advance(self, step: int, loss: float | None = None) -> None:
                found.append(in_child(second))

        def second() -> int:
            try:
                distil(tmp_path / "out", seed=1)
            except StorageError as error:
                return 7 if "another process is working" in str(error) else 8
            return 0

        training = Training(**{**vars(TRAINING), "log_every": 10})
        first = distil(tmp_path / "out", training=training, progress=Meanwhile())
        assert set(found) == {7}
        assert weights_fingerprint(Tiny.from_pretrained(tmp_path / "out")) == weights_fingerprint(first.student)

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    @pytest.mark.parametrize("truncated", [True, False])
    def test_a_finished_student_that_is_lost(self, tmp_path: Path, name: str, truncated: bool) -> None:
        first, listener = distil(tmp_path / "out"), Recorder()
        path = tmp_path / "out" / name
        path.write_bytes(path.read_bytes()[:50]) if truncated else path.unlink()
        again = distil(tmp_path / "out", progress=listener)
        assert weights_fingerprint(again.student) == weights_fingerprint(first.student)
        assert weights_fingerprint(Tiny.from_pretrained(tmp_path / "out")) == weights_fingerprint(first.student)
        assert len([text for text in listener.messages if "it is trained again" in text]) == 1

    def test_pairs_outlast_the_settings(self, tmp_path: Path) -> None:
        teacher = built(Sampler)
        given: dict[str, Any] = {"teacher": teacher, "objective": limbeck.methods.surrogate(0.0)}
        given["pairs"] = Pairs(count=64, page_rows=8, shard_rows=16, batch_size=16)
        distil(tmp_path / "out", student=built(Sampler, seed=1), **given)
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "pairs").rglob("*.safetensors")}
        assert before
        distil(tmp_path / "out", student=built(Sampler, seed=1), seed=0, **given | {"training": Training(steps=3)})
        assert len(list(tmp_path.iterdir())) == 2
        after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "pairs").rglob("*.safetensors")}
        assert after == before

    def test_how_often_one_looks_makes_none(self, tmp_path: Path) -> None:
        first = distil(tmp_path / "out")
        again = distil(tmp_path / "out", training=Training(**{**vars(TRAINING), "log_every": 2, "checkpoint_every": 9}))
        assert again.metrics == first.metrics
        assert len(list(tmp_path.iterdir())) == 1

    def test_double_precision_comes_back(self, tmp_path: Path) -> None:
        trainer = TrainerOptions(precision="64-true")
        first = distil(tmp_path / "out", trainer=trainer)
        again = distil(tmp_path / "out", trainer=trainer)
        assert again.student.body[0].weight.dtype == torch.float64
        assert weights_fingerprint(again.student) == weights_fingerprint(first.student)

    def test_damaged_checkpoints_are_not_thrown_away(self, tmp_path: Path) -> None:
        assert in_child(lambda: distil(tmp_path / "out", progress=Killing(10)) and 0) == -9
        for name in ("last.ckpt", "previous.ckpt"):
            (tmp_path / "out" / name).write_bytes(b"half")
        with pytest.raises(CheckpointError, match="to start this stage again"):
            distil(tmp_path / "out")
        assert (tmp_path / "out" / "last.ckpt").read_bytes() == b"half"


def test_processes_other_than_the_first_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They see that the main one has begun, train, and leave the files to it."""
    assert in_child(lambda: distil(tmp_path / "out", progress=Killing(10)) and 0) == -9
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    monkeypatch.setenv("LOCAL_RANK", "1")
    distil(tmp_path / "out", training=Training(**{**vars(TRAINING), "checkpoint_every": 100}))
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


class TestObjective:
    def test_is_left_as_it_was(self) -> None:
        """So that a second distillation with it starts afresh, also of a student of another width."""
        objective = limbeck.methods.transfer(["h[*]:vid@1"])
        network = {"inputs": 3, "classes": 2}
        teacher = built(limbeck.models.MLPClassifier, 0, widths=[5, 4], **network)
        data = Batch(torch.randint(2, (16,)), torch.rand(16, 3))
        found = [
            distil(
                teacher=teacher, student=built(limbeck.models.MLPClassifier, 1, widths=[width, 4], **network),
                objective=objective, data=data,
            )
            for width in (3, 3, 6)
        ]  # fmt: skip
        assert weights_fingerprint(found[0].student) == weights_fingerprint(found[1].student)
        assert not list(objective.parameters())
        assert all(len(list(one.objective.learned.children())) == 2 for one in found)
        assert len({weights_fingerprint(one.objective) for one in found[:2]}) == 1

    def test_what_its_coupling_learns_too(self) -> None:
        objective = limbeck.methods.mapped("learned")
        first, second = (distil(objective=objective) for _ in range(2))
        assert weights_fingerprint(first.student) == weights_fingerprint(second.student)
        assert not list(objective.parameters())
        assert list(first.objective.parameters())


def test_what_is_refused_leaves_the_student_that_is_there(tmp_path: Path) -> None:
    """Stored outputs that are too large, for example, are told of only when they are made."""
    distil(tmp_path / "student")
    before = hashes(tmp_path, "**/*.*")

    class Refused(Progress):
        def start(self, label: str, steps: int, done: int) -> None:
            raise RecipeError("not here")

    with pytest.raises(RecipeError, match="not here"):
        distil(tmp_path / "student", training=dataclasses.replace(TRAINING, steps=11), progress=Refused())
    assert hashes(tmp_path, "**/*.*") == before
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
