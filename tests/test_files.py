from __future__ import annotations

import errno
import os

import pytest

from limbeck.errors import StorageError
from limbeck.files import (
    atomic_write_bytes,
    atomic_write_text,
    link_or_copy,
    remove_temporary_files,
    temporary_path,
)


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "deep" / "er" / "a.bin"
    assert atomic_write_bytes(path, b"one") == path
    atomic_write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["a.bin"]


def test_text_is_utf8(tmp_path):
    atomic_write_text(tmp_path / "t", "σ ± λ\n")
    assert (tmp_path / "t").read_bytes() == "σ ± λ\n".encode()


def test_permissions_follow_umask_and_are_kept(tmp_path):
    path = atomic_write_bytes(tmp_path / "a", b"")
    (tmp_path / "plain").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    path.chmod(0o640)
    atomic_write_bytes(path, b"x")
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission"), (errno.EIO, "check the disk")]
)
def test_failure_keeps_old_content_and_leaves_nothing(tmp_path, monkeypatch, function, code, words):
    path = atomic_write_bytes(tmp_path / "a", b"old")

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(StorageError, match=words) as caught:
        atomic_write_bytes(path, b"new")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write_bytes(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == []


def test_parent_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "b" / "a"):
        with pytest.raises(StorageError, match="not a directory") as caught:
            atomic_write_bytes(path, b"")
        assert str(path) in str(caught.value)


def test_target_is_a_directory(tmp_path):
    (tmp_path / "d").mkdir()
    with pytest.raises(StorageError, match="directory of that name"):
        atomic_write_bytes(tmp_path / "d", b"")
    assert os.listdir(tmp_path) == ["d"]


def test_longest_legal_name(tmp_path):
    path = tmp_path / ("n" * 255)
    assert atomic_write_bytes(path, b"x").exists()
    with pytest.raises(StorageError, match="too long"):
        atomic_write_bytes(tmp_path / ("n" * 256), b"x")


def test_directory_fsync_is_optional(tmp_path, monkeypatch):
    real = os.open

    def no_directories(path, flags, *rest, **keywords):
        if os.path.isdir(path):
            raise OSError(errno.EINVAL, "not here")
        return real(path, flags, *rest, **keywords)

    monkeypatch.setattr(os, "open", no_directories)
    assert atomic_write_bytes(tmp_path / "a", b"x").read_bytes() == b"x"


def test_link_or_copy(tmp_path, monkeypatch):
    """One file where that is possible, else a copy; nothing is left, whatever fails on the way."""
    source, linked, copied = (tmp_path / name for name in ("source", "a/linked", "a/copied"))
    source.write_bytes(b"content")
    for _ in range(2):
        link_or_copy(source, linked)
        assert linked.samefile(source)

    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    copied.write_bytes(b"before")
    link_or_copy(source, copied)
    assert not copied.samefile(source)
    assert copied.read_bytes() == b"content"
    assert sorted(os.listdir(tmp_path / "a")) == ["copied", "linked"]
    with pytest.raises(StorageError, match="is a file, not a directory"):
        link_or_copy(source, source / "below")


def test_remains_are_known_by_their_names(tmp_path):
    (tmp_path / "a").mkdir()
    paths = [temporary_path(tmp_path / "a") for _ in range(2)]
    assert paths[0] != paths[1]
    for path in (*paths, tmp_path / "a" / "mine.tmp"):
        path.touch()
    remove_temporary_files(tmp_path)
    assert os.listdir(tmp_path / "a") == ["mine.tmp"]
