"""Recording a teacher: what is stored is what it does, whoever makes it, however often it is interrupted."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import limbeck.files
from limbeck.data.pairs.layout import encode
from limbeck.data.pairs.store import PairStore
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.pairs.pair_report import PairReport
from limbeck.engine.pairs.record import record
from limbeck.engine.pairs.recorded_teacher import RecordedTeacher
from limbeck.errors import ModelError, RecipeError, StorageError
from tests.listening import Recorder
from tests.sampler import Hierarchy, Sampler
from tests.tiny import built, counted, die, hashes, in_child

PAGE, SHARD, BATCH = 4, 16, 8


def pairs(**changes: Any) -> Pairs:
    return Pairs(**{"count": 60, "page_rows": PAGE, "shard_rows": SHARD, "batch_size": BATCH} | changes)


def recorded(directory: Path, teacher: Sampler | None = None, **changes: Any) -> RecordedTeacher:
    arguments = {key: changes.pop(key) for key in ("seed", "inputs", "progress") if key in changes}
    return record(built(Sampler) if teacher is None else teacher, pairs(**changes), directory, **arguments)


def everything(teacher: RecordedTeacher) -> Any:
    with teacher.reading(0, len(teacher)) as x:
        return teacher.trace(None if x is not None else len(teacher), x)


class TestContent:
    @pytest.mark.parametrize(("dtype", "error"), [("uint8", 0.5 / 255), ("float16", 3e-4), ("float32", 1e-6)])
    def test_teacher_makes_the_stored_from_the_noise_again(self, tmp_path: Path, dtype: str, error: float) -> None:
        teacher = built(Sampler)
        found = everything(recorded(tmp_path, teacher, dtype=dtype, states=["x[*]"]))
        again = teacher.trace(noise={"x_T": found["x_T"].noise})
        assert (again["x_0"].distribution.mean - found["x_0"].distribution.mean).abs().max() <= error + 1e-6
        assert torch.equal(again["x_0"].distribution.scale, found["x_0"].distribution.scale)
        for name in ("x[2]", "x[1]"):
            assert torch.allclose(again[name].value, found[name].value, atol=2e-3)
        assert list(found) == list(again)

    def test_bytes_are_the_rounded_means(self, tmp_path: Path) -> None:
        teacher = built(Sampler)
        replayed = recorded(tmp_path, teacher, dtype="uint8")
        means = teacher.trace(noise={"x_T": everything(replayed)["x_T"].noise})["x_0"].distribution.mean
        stored = replayed.recorded.store.read("x_0", range(replayed.pages))
        assert (stored != encode(means, "uint8")).float().mean() < 0.01  # on the edge between two levels

    def test_several_latents_and_targets(self, tmp_path: Path) -> None:
        teacher = built(Sampler, extra=True)
        found = everything(recorded(tmp_path, teacher))
        again = teacher.trace(noise={name: found[name].noise for name in ("x_T", "e")})
        for name in ("x_0", "n"):
            assert torch.allclose(again[name].distribution.mean, found[name].distribution.mean, atol=1e-2)
        assert found["n"].distribution.scale.unique().item() == pytest.approx(0.1)

    def test_inputs(self, tmp_path: Path) -> None:
        """Every class is asked for as often as it is among the inputs, and pairs belong to theirs."""
        teacher = built(Sampler, classes=3)
        inputs = torch.eye(3)[torch.tensor([0, 1, 1, 2])]
        replayed = recorded(tmp_path, teacher, count=400, inputs=inputs)
        with replayed.reading(0, 400) as x:
            found = replayed.trace(x=x)
        again = teacher.trace(x=x, noise={"x_T": found["x_T"].noise})
        assert torch.allclose(again["x_0"].distribution.mean, found["x_0"].distribution.mean, atol=1e-3)
        assert 150 < x[:, 1].sum() < 250

    def test_noise_is_standard_normal_and_never_repeats(self, tmp_path: Path) -> None:
        noise = everything(recorded(tmp_path, count=2000, shard_rows=2000))["x_T"].noise.flatten(1)
        assert abs(noise.mean()) < 0.03
        assert abs(noise.std() - 1) < 0.02
        assert len(torch.unique(noise, dim=0)) == 2000

    def test_another_seed_is_another_recording(self, tmp_path: Path) -> None:
        a, b = (everything(recorded(tmp_path, seed=seed))["x_T"].noise for seed in (0, 1))
        assert not torch.isclose(a, b).any(0).any()
        assert len(list(tmp_path.iterdir())) == 2

    def test_means_of_a_family(self, tmp_path: Path) -> None:
        law = everything(recorded(tmp_path, built(Sampler, family="independent")))["x_0"].distribution
        assert (law.batch_shape, law.event_shape) == ((60,), (1, 4, 4))

    def test_global_noise_and_modes_are_left_alone(self, tmp_path: Path) -> None:
        teacher = built(Sampler).train()
        torch.manual_seed(3)
        recorded(tmp_path, teacher)
        drawn = torch.rand(1)
        torch.manual_seed(3)
        assert torch.equal(drawn, torch.rand(1))
        assert teacher.training


class TestKey:
    @pytest.mark.parametrize(
        "changes",
        [
            {"dtype": "uint8"},
            {"states": ["x[1]"]},
            {"page_rows": 8},
            {"batch_size": 16},
            {"shard_rows": 32},
            {"seed": 5},
        ],
    )
    def test_nothing_else_is_reused(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        recorded(tmp_path)
        teacher = built(Sampler)
        recorded(tmp_path, teacher, **changes)
        assert len(list(tmp_path.iterdir())) == 2
        assert teacher.runs

    def test_nor_of_another_teacher(self, tmp_path: Path) -> None:
        recorded(tmp_path)
        recorded(tmp_path, built(Sampler, seed=1))
        recorded(tmp_path, built(Sampler, steps=2))
        assert len(list(tmp_path.iterdir())) == 3

    @pytest.mark.parametrize("changes", [{}, {"count": 30}, {"workers": 2}])
    def test_the_same_is(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        recorded(tmp_path)
        teacher = built(Sampler)
        recorded(tmp_path, teacher, **changes)
        assert teacher.runs == []

    def test_growing(self, tmp_path: Path) -> None:
        few = everything(recorded(tmp_path, count=32))["x_0"].distribution.mean
        before = hashes(tmp_path)
        teacher, told = built(Sampler), Recorder()
        many = everything(recorded(tmp_path, teacher, count=64, progress=told))["x_0"].distribution.mean
        assert torch.equal(many[:32], few)
        assert teacher.runs == [BATCH] * 4
        assert told.stages == [("pairs", 8, 4)]
        assert before.items() <= hashes(tmp_path).items()


class TestInterruption:
    @pytest.mark.parametrize("moment", [(os, "replace"), (os, "fsync"), (PairStore, "write"), (PairReport, "made")])
    def test_killed_again_and_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: Any) -> None:
        recorded(tmp_path / "whole", count=100)
        lives = 0
        while True:
            with monkeypatch.context() as patch:
                patch.setattr(*moment, counted(getattr(*moment), 5 + lives % 3))
                status = in_child(lambda: recorded(tmp_path / "killed", count=100) and None)
            lives += 1
            if status == 0:
                break
            assert status == -9
            assert lives < 20
        assert lives > 1
        assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")
        assert not list(tmp_path.rglob(".limbeck*"))

    def test_only_what_is_missing_is_made(self, tmp_path: Path) -> None:
        whole = recorded(tmp_path, count=64)
        whole.recorded.store.remove(2)
        teacher = built(Sampler)
        recorded(tmp_path, teacher, count=64)
        assert teacher.runs == [BATCH] * 2

    @pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw[:-9] + b"!" + raw[-8:], lambda raw: b""])
    def test_damaged_file_is_named_and_made_again(self, tmp_path: Path, damage: Any) -> None:
        whole = recorded(tmp_path, count=64)
        expected, path = hashes(tmp_path), whole.recorded.store.path(1)
        path.write_bytes(damage(path.read_bytes()))
        teacher, told = built(Sampler), Recorder()
        recorded(tmp_path, teacher, count=64, progress=told)
        assert f"{path} is damaged (" in told.messages[0]
        assert teacher.runs == [BATCH] * 2
        assert hashes(tmp_path) == expected

    def test_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        recorded(tmp_path, count=16)

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(limbeck.files.os, "fsync", full)
            with pytest.raises(StorageError, match=r"shard-00001\.safetensors.*the disk is full; free some space"):
                recorded(tmp_path, count=64)
        teacher = built(Sampler)
        recorded(tmp_path, teacher, count=64)
        assert teacher.runs == [BATCH] * 6


class TestProcesses:
    def test_two_at_once_share_the_work(self, tmp_path: Path) -> None:
        """Each file is made by one of them, and all are what one process makes alone."""
        recorded(tmp_path / "alone", count=320)
        context = multiprocessing.get_context("fork")
        made = context.Queue()

        def work() -> None:
            teacher = Slow()
            teacher.load_state_dict(built(Sampler).state_dict())
            record(teacher, pairs(count=320), tmp_path / "shared", identity="the same")
            made.put(sum(teacher.runs))

        processes = [context.Process(target=work) for _ in range(2)]
        for process in processes:
            process.start()
        rows = [made.get(timeout=60) for _ in processes]
        for process in processes:
            process.join()
        assert min(rows) > 32
        assert sum(rows) <= 320 + 2 * 2  # each ran two rows to see what the sites are, unless the other had
        alone, shared = (sorted(hashes(tmp_path / name).items()) for name in ("alone", "shared"))
        # Under another name of the teacher, and so under another seal: the numbers are the same.
        assert len(alone) == len(shared) == 20
        for (one, _), (other, _) in zip(alone, shared, strict=True):
            assert body(tmp_path / "alone" / one) == body(tmp_path / "shared" / other)

    def test_who_dies_leaves_its_part_to_others(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        recorded(tmp_path / "whole", count=64)

        def victim() -> None:
            monkeypatch.setattr(PairReport, "made", counted(PairReport.made, 2, die))
            recorded(tmp_path / "shared", count=64)

        assert in_child(victim) == -9
        recorded(tmp_path / "shared", count=64)
        assert hashes(tmp_path / "shared") == hashes(tmp_path / "whole")

    @pytest.mark.slow
    def test_workers(self, tmp_path: Path) -> None:
        recorded(tmp_path / "alone", count=320)
        teacher, told = built(Sampler), Recorder()
        recorded(tmp_path / "helped", teacher, count=320, workers=2, progress=told)
        assert hashes(tmp_path / "alone") == hashes(tmp_path / "helped")
        assert told.steps[-1][0] == told.stages[0][1] == 40
        assert "by each of 2 processes" in told.messages[1]


class Slow(Sampler):
    """Long enough for the other process to come."""

    def generate(self, *arguments: Any) -> None:
        torch.linalg.svd(torch.rand(150, 150))
        super().generate(*arguments)


def body(path: Path) -> bytes:
    raw = path.read_bytes()
    return raw[8 + int.from_bytes(raw[:8], "little") :]


class TestWhatIsTold:
    def test_size_and_time(self, tmp_path: Path) -> None:
        told = Recorder()
        recorded(tmp_path, count=320, held_out=16, dtype="uint8", progress=told)
        assert told.messages[0].startswith("pairs: 336 pairs, 5.4 kB, of which 5.4 kB are still to be made in ")
        assert "pairs a second, about " in told.messages[1]
        assert told.stages == [("pairs", 42, 0)]
        assert told.steps[-1][0] == 42

    def test_nothing_new(self, tmp_path: Path) -> None:
        recorded(tmp_path)
        told = Recorder()
        recorded(tmp_path, progress=told)
        assert told.messages == []
        assert told.stages == [("pairs", 8, 8)]

    def test_numbers_that_are_no_images(self, tmp_path: Path) -> None:
        told = Recorder()
        recorded(tmp_path, built(Sampler, extra=True), dtype="uint8", progress=told)
        assert any("of 'n' are outside [0, 1], and dtype uint8 clamps" in text for text in told.messages)


class Blown(Sampler):
    def step(self, *arguments: Any) -> torch.Tensor:
        return super().step(*arguments) * (torch.inf if sum(self.runs) > 30 else 1.0)


class TestRefusals:
    @pytest.mark.parametrize(
        ("teacher", "match"),
        [
            (Hierarchy, "the latent 'z1' is not standard normal given all others; leave pairs out"),
            (lambda: Sampler(family="wide"), "target 'x_0' is Normal.* only a Gaussian of one fixed scale"),
        ],
    )
    def test_teachers(self, tmp_path: Path, teacher: Any, match: str) -> None:
        with pytest.raises(ModelError, match=match):
            record(teacher(), pairs(), tmp_path)

    def test_unknown_state(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"no deterministic site 'x\[7\]'; it has: x\[2\], x\[1\]"):
            recorded(tmp_path, states=["x[7]"])

    def test_not_finite(self, tmp_path: Path) -> None:
        """Infinity becomes not a number at the next step: the law of the target notices or, unchecked, we do."""
        with pytest.raises(ModelError, match=r"numbers that are not finite.*, in the pairs 24 to 31"):
            recorded(tmp_path, built(Blown))

    def test_too_large(self, tmp_path: Path) -> None:
        teacher = built(Sampler)
        teacher.network.weight.data.mul_(1e4)
        with pytest.raises(ModelError, match=r"'x\[1\]' has numbers that are not finite or too large for float16, in"):
            recorded(tmp_path, teacher, states=["x[*]"])

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"count": 0}, "pairs.count must be at least 1"),
            ({"held_out": -1}, "pairs.held_out must not be negative"),
            ({"shard_rows": 10}, "multiple of pairs.page_rows, but 10 is none of 4"),
            ({"dtype": "int4"}, "pairs.dtype must be uint8"),
        ],
    )
    def test_settings(self, changes: dict[str, Any], match: str) -> None:
        with pytest.raises(RecipeError, match=match):
            pairs(**changes)
