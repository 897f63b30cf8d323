"""A disk that is full says so, and with space again the same command ends as if it had always been there."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import limbeck.files
from tests.cli.whole_runs import prepared, run
from tests.tiny import hashes

pytestmark = pytest.mark.usefixtures("untimed", "no_page")


class Disk:
    """A disk that refuses to write from some call on; only files whose path contains ``only`` count."""

    def __init__(self, good: int, only: str = "") -> None:
        self.good, self.only = good, only
        self.plain = os.open

    def open(self, path: Any, flags: int, *rest: Any, **more: Any) -> int:
        writing = flags & os.O_CREAT
        if writing and self.only in str(path):
            self.good -= 1
            if self.good < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return self.plain(path, flags, *rest, **more)


def test_without_room_for_checkpoints_training_goes_on(
    tmp_path: Path, whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoints fail, training goes on to the same weights."""
    plain = limbeck.files.atomic_write_bytes

    def full(path: Any, data: bytes) -> Path:
        if str(path).endswith("next.ckpt"):
            raise limbeck.files.storage_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        return plain(path, data)

    monkeypatch.setattr("limbeck.engine.training.checkpoints.atomic_write_bytes", full)
    prepared(tmp_path, "plain")
    assert run(tmp_path) == 0
    err = capsys.readouterr().err
    assert "Warning: no checkpoint at step 3" in " ".join(err.split())
    assert "the disk is full" in " ".join(err.split())
    assert hashes(tmp_path / "runs") == hashes(whole["plain"])


@pytest.mark.parametrize("good", range(0, 22, 3))
def test_a_full_disk_is_told_in_one_message_at_any_moment(
    tmp_path: Path,
    whole: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    good: int,
) -> None:
    """One clear message and a status; with space again, the same command finishes."""
    prepared(tmp_path, "plain")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", Disk(good).open)
        status = run(tmp_path)
    err = " ".join(capsys.readouterr().err.split())
    assert status == 1
    assert err.count("limbeck: error:") == 1
    assert "the disk is full; free some space" in err.split("limbeck: error:")[1]
    assert "Traceback" not in err
    assert run(tmp_path) == 0
    assert hashes(tmp_path / "runs") == hashes(whole["plain"])


def test_a_file_system_that_is_really_full_is_told_too(
    tmp_path: Path, whole: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A file system of 200 kB: big enough to begin, too small to finish."""
    prepared(tmp_path, "plain")
    small = tmp_path / "runs"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "none", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        status = run(tmp_path)
        err = " ".join(capsys.readouterr().err.split())
        assert status == 1
        assert err.count("limbeck: error:") == 1
        assert "full" in err
        assert subprocess.run(["mount", "-o", "remount,size=20m", str(small)]).returncode == 0
        assert run(tmp_path) == 0
        assert hashes(small) == hashes(whole["plain"])
    finally:
        subprocess.run(["umount", str(small)], check=False)
