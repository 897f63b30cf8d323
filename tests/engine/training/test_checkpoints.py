"""Checkpoints: what they hold, which is read, and what is said of damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from limbeck.core.sites import Sites
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.stages.progress import Progress
from limbeck.engine.training.checkpoints import (
    LAST,
    NEXT,
    PREVIOUS,
    Checkpoint,
    find_checkpoint,
    read_checkpoint,
    remove_checkpoints,
)
from limbeck.errors import CheckpointError
from tests.engine.training.short_trainings import StoppedError, distilled, options
from tests.listening import Interrupting, Recorder
from tests.tiny import built


class TestCheckpoints:
    def test_a_checkpoint_holds_the_student_and_no_teacher(self, tmp_path: Path) -> None:
        distilled(directory=str(tmp_path), teacher=built(width=300), options=options(steps=8, checkpoint_every=3))
        found = read_checkpoint(tmp_path / LAST)
        assert found["global_step"] == 6
        assert read_checkpoint(tmp_path / PREVIOUS)["global_step"] == 3
        assert {name.split(".")[0] for name in found["state_dict"]} == {"student"}
        student_size = sum(parameter.numel() * parameter.element_size() for parameter in built(width=3).parameters())
        teacher_size = sum(parameter.numel() * parameter.element_size() for parameter in built(width=300).parameters())
        assert (tmp_path / LAST).stat().st_size < 3 * student_size + 20_000 < teacher_size

    def test_an_unfinished_replacement_is_the_newest(self, tmp_path: Path) -> None:
        """Killed between two renames: the new checkpoint still has its temporary name."""
        distilled(directory=tmp_path, options=options(steps=8, checkpoint_every=3))
        assert find_checkpoint(tmp_path, Progress()) == Checkpoint(tmp_path / LAST, 6)
        (tmp_path / LAST).rename(tmp_path / NEXT)
        assert find_checkpoint(tmp_path, Progress()) == Checkpoint(tmp_path / NEXT, 6)
        remove_checkpoints(tmp_path)
        assert find_checkpoint(tmp_path, Progress()) is None

    def test_none_is_left_of_the_last_step(self, tmp_path: Path) -> None:
        distilled(directory=tmp_path, options=options(steps=3, checkpoint_every=3))
        assert list(tmp_path.iterdir()) == []

    def test_a_truncated_one_is_passed_over(self, tmp_path: Path) -> None:
        expected, _ = distilled()
        self.interrupted(tmp_path)
        whole = (tmp_path / LAST).read_bytes()
        (tmp_path / LAST).write_bytes(whole[: len(whole) // 2])
        recorder = Recorder()
        student, found = distilled(directory=tmp_path, options=options(checkpoint_every=2), progress=recorder)
        assert found.resumed_at == 4
        assert weights_fingerprint(student) == weights_fingerprint(expected)
        assert len(recorder.messages) == 1
        assert "last.ckpt is damaged" in recorder.messages[0]
        assert "previous.ckpt instead" in recorder.messages[0]

    @pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nothing", b"\x80\x04 a pickle?"])
    def test_two_damaged_ones_are_named(self, tmp_path: Path, damage: bytes) -> None:
        self.interrupted(tmp_path)
        for name in (LAST, PREVIOUS):
            (tmp_path / name).write_bytes(damage)
        with pytest.raises(CheckpointError) as caught:
            distilled(directory=tmp_path)
        text = str(caught.value)
        assert LAST in text
        assert PREVIOUS in text
        assert f"Delete {tmp_path}" in text
        assert "\n" not in text

    def test_code_in_a_checkpoint_is_not_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple:
                return (Path.touch, (tmp_path / "ran",))

        torch.save({"global_step": Evil()}, tmp_path / LAST)
        with pytest.raises(CheckpointError):
            find_checkpoint(tmp_path, Progress())
        assert not (tmp_path / "ran").exists()

    def interrupted(self, directory: Path) -> None:
        """Checkpoints of steps 6 and 4, as a process leaves them that dies at step 7."""

        settings = options(checkpoint_every=2, log_every=1)
        with pytest.raises(InterruptedError):
            distilled(directory=directory, options=settings, progress=Interrupting(7))
        assert read_checkpoint(directory / LAST)["global_step"] == 6

    def test_half_filled_row_of_the_history_is_kept(self, tmp_path: Path) -> None:
        whole = distilled(options=options(log_every=5))[1].history

        student = built(seed=1, width=3)
        calls = 0
        plain = student.generate

        def stop(sites: Sites, x: Tensor | None = None) -> None:
            nonlocal calls
            calls += 1
            if calls == 8:
                raise StoppedError
            plain(sites, x)

        student.generate = stop  # type: ignore[method-assign]
        with pytest.raises(StoppedError):
            distilled(student=student, directory=tmp_path, options=options(log_every=5, checkpoint_every=7))
        _, found = distilled(directory=tmp_path, options=options(log_every=5, checkpoint_every=7))
        assert found.resumed_at == 7
        assert [row["step"] for row in found.history.rows] == [5, 10, 12]
        for row, expected in zip(found.history.rows, whole.rows):
            assert row["total"] == pytest.approx(expected["total"], rel=1e-6)
