"""However often a recording is interrupted, what is stored is the same."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

import limbeck.files
from limbeck.data.pairs.store import PairStore
from limbeck.engine.pairs.pair_report import PairReport
from limbeck.errors import StorageError
from tests.engine.pairs.recordings import BATCH, recorded
from tests.listening import Recorder
from tests.sampler import Sampler
from tests.tiny import built, counted, hashes, in_child


class TestInterruption:
    @pytest.mark.parametrize("moment", [(os, "replace"), (os, "fsync"), (PairStore, "write"), (PairReport, "made")])
    def test_a_recording_killed_again_and_again_is_the_whole_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: Any
    ) -> None:
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

    def test_a_full_disk_is_told_and_what_was_made_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
