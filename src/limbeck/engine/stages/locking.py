"""One process at a time in a directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from limbeck.errors import StorageError
from limbeck.files import storage_error

__all__ = ["LOCK", "behind_link", "locked"]

LOCK = ".lock"
"""Name of the file in a directory by which it is held."""


@contextlib.contextmanager
def locked(directory: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a directory so that no other process writes into it at the same time. The lock ends with the process.

    Args:
        directory: the directory; it is made if it does not exist.
        wait: whether to wait for another process that holds the directory; by default that is an error.

    Raises:
        StorageError: another process holds the directory, or it cannot be written.
    """
    directory = behind_link(directory)
    while True:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            handle = (directory / LOCK).open("w")
        except OSError as error:
            raise storage_error(directory, error) from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise storage_error(directory, error) from None
                raise StorageError(
                    f"another process is working in {directory}; wait for it, or choose another directory (--name of "
                    "a run, --out of a student)"
                ) from None
            if _in_place(handle):
                yield
                return


def behind_link(directory: Path) -> Path:
    """A directory, or the one that a link of this name points to: only that can be made, moved aside and made again."""
    return directory.resolve() if directory.is_symlink() else directory


def _in_place(handle: IO[str]) -> bool:
    """Whether an open file still has its name: the last holder may have moved the directory together with the lock."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), os.stat(handle.name))
    except FileNotFoundError:
        return False
