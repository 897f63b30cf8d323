"""Who writes which shard: locks that die with their process, so that no shard is made twice and none is left out."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from limbeck.files import remove_temporary_files, storage_error

__all__ = ["Claims", "claims"]

_BUSY = (errno.EACCES, errno.EAGAIN)


class Claims:
    """Locks on the bytes of one file, one byte per shard. They hold between processes, not within one.

    Args:
        descriptor: of the file, open for writing.
        path: of the file.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path

    def take(self, shard: int, *, wait: bool = False) -> bool:
        """Claim a shard, and return whether that worked: another process may hold it.

        Args:
            shard: its number.
            wait: whether to wait for the process that holds it.

        Raises:
            StorageError: the file system has no locks.
        """
        return self._lock(1, shard, wait=wait)

    def release(self, shard: int) -> None:
        """Let others have it."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, shard)

    def take_all(self) -> None:
        """Wait until nobody else holds anything, and then hold everything until the file is closed.

        Raises:
            StorageError: the file system has no locks.
        """
        self._lock(0, 0, wait=True)

    def clean(self) -> None:
        """Delete what writers that were killed have left, unless someone is writing."""
        if self._lock(0, 0, wait=False):
            remove_temporary_files(self._path.parent)
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 0, 0)

    def _lock(self, length: int, start: int, *, wait: bool) -> bool:
        """Lock bytes of the file; a length of 0 means all from ``start`` on."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), length, start)
        except OSError as error:
            if error.errno in _BUSY:
                return False
            raise storage_error(self._path, error) from None
        return True


@contextlib.contextmanager
def claims(path: Path) -> Iterator[Claims]:
    """Open the file of locks; leaving releases them all.

    Args:
        path: the file, made if missing.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise storage_error(path, error) from None
    try:
        yield Claims(descriptor, path)
    finally:
        os.close(descriptor)
