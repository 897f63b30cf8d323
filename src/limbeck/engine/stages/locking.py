"""One process at a time in a directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
from collections.abc import Iterator
from pathlib import Path

from limbeck.errors import StorageError
from limbeck.files import storage_error

__all__ = ["locked"]


@contextlib.contextmanager
def locked(directory: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a directory, so that two processes never write into it at once. The lock dies with the process.

    Args:
        directory: made if missing.
        wait: whether to wait for another process that holds it, rather than to refuse.

    Raises:
        StorageError: another process holds it, or the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = (directory / ".lock").open("w")
    except OSError as error:
        raise storage_error(directory, error) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise storage_error(directory, error) from None
            raise StorageError(
                f"another process is working in {directory}; wait for it, or choose another --name"
            ) from None
        yield
