"""Directories are held by one process at a time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from limbeck.engine.stages.locking import locked
from limbeck.errors import StorageError
from tests.tiny import in_child


def test_only_one_at_a_time(tmp_path: Path) -> None:
    def second() -> int:
        try:
            with locked(tmp_path / "run"):
                return 0
        except StorageError as error:
            return 7 if "another process is working" in str(error) else 8

    with locked(tmp_path / "run"):
        assert in_child(second) == 7
    assert in_child(second) == 0


def test_a_directory_that_is_moved_meanwhile(tmp_path: Path) -> None:
    """Its lock goes with it: who waited for that one holds nothing yet."""
    held = threading.Event()

    def move() -> None:
        with locked(tmp_path / "run"):
            held.set()
            time.sleep(0.3)
            (tmp_path / "run").rename(tmp_path / "aside")

    mover = threading.Thread(target=move)
    mover.start()
    held.wait()
    with locked(tmp_path / "run", wait=True), pytest.raises(StorageError), locked(tmp_path / "run"):
        pass
    mover.join()


def test_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(StorageError, match="run"), locked(tmp_path / "run"):
        pass


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    order: list[str] = []
    held = threading.Event()

    def hold() -> None:
        with locked(tmp_path / "shared"):
            held.set()
            time.sleep(0.3)
            order.append("first")

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with locked(tmp_path / "shared", wait=True):
        order.append("second")
    holder.join()
    assert order == ["first", "second"]
