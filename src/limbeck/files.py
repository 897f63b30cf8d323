"""Writing files so that nothing half-written is ever visible under its final name."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from limbeck.errors import StorageError

__all__ = ["atomic_write_bytes", "atomic_write_text", "link_or_copy", "remove_temporary_files", "storage_error",
           "temporary_path"]  # fmt: skip

_PREFIX, _SUFFIX = ".limbeck-", ".tmp"

_MENDS = {
    errno.ENOSPC: "the disk is full; free some space, or choose a directory on another disk, and run again",
    errno.EDQUOT: "the disk quota is used up; free some space, or choose another directory, and run again",
    errno.EACCES: "permission is missing; choose a directory you may write to, or change its permissions",
    errno.EPERM: "permission is missing; choose a directory you may write to, or change its permissions",
    errno.EROFS: "the file system is read-only; choose a directory you may write to",
    errno.ENOTDIR: "a part of the path is a file, not a directory; move that file away or choose another path",
    errno.EEXIST: "a part of the path is a file, not a directory; move that file away or choose another path",
    errno.EISDIR: "a directory of that name is in the way; move it away or choose another path",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def storage_error(path: str | Path, error: OSError) -> StorageError:
    """Turn an error of the operating system into one that names the path and says what to do about it.

    Args:
        path: the file or directory that could not be written.
        error: what the operating system said.

    Returns:
        The error to raise (``raise storage_error(path, error) from error``).
    """
    mend = _MENDS.get(error.errno or 0, "check the disk and the path, and run again")
    return StorageError(f"Cannot write {path}: {error.strerror or error}; {mend}")


def temporary_path(directory: Path) -> Path:
    """A new name in a directory for a file that is still being written; :func:`remove_temporary_files` knows it.

    The name does not contain the final one: a legal but very long name must stay writable.
    """
    return directory / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"


def atomic_write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a file completely or not at all.

    The data goes to a temporary file in the same directory, is flushed to the disk and then renamed. At any moment, and
    also after the process was killed, a reader sees either the old content or the new, never a part. Missing parent
    directories are made. Existing permissions are kept; a new file gets the usual ones.

    Args:
        path: the final name.
        data: the whole content.

    Returns:
        The path written.

    Raises:
        StorageError: the disk is full, permission is missing, or the path is not usable.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
    except OSError as error:
        raise storage_error(path, error) from error
    return path


def atomic_write_text(path: str | Path, text: str) -> Path:
    """Write a text file as UTF-8, completely or not at all; see :func:`atomic_write_bytes`."""
    return atomic_write_bytes(path, text.encode("utf-8"))


def link_or_copy(source: Path, target: Path) -> None:
    """Make a path a hard link to a file, or a copy of the file where links are not possible; completely or not at all.

    Args:
        source: an existing file.
        target: the new name; an existing file of that name is replaced.

    Raises:
        StorageError: as for :func:`atomic_write_bytes`, or the source cannot be read.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.samefile(source):
            return
        temporary = temporary_path(target.parent)
        try:
            os.link(source, temporary)
            os.replace(temporary, target)
        except OSError:  # the file system has no hard links, or the file has too many
            with contextlib.suppress(OSError):
                temporary.unlink()
            atomic_write_bytes(target, source.read_bytes())
    except OSError as error:
        raise storage_error(target, error) from None


def remove_temporary_files(directory: Path) -> None:
    """Delete the files that killed processes left half-written below a directory that no other process writes into."""
    for path in directory.rglob(f"{_PREFIX}*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            path.unlink()


def _replace(path: Path, data: bytes) -> None:
    # Not with tempfile: a file opened by os.open gets the permissions that the umask asks for.
    temporary = temporary_path(path.parent)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(handle.fileno(), path.stat().st_mode & 0o777)
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        # BaseException: an interrupted write must not leave its temporary file behind either.
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Make the rename itself durable. Some network file systems refuse this; the file is written nevertheless."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
