"""Arrays with a row for each input of a model, on disk: written once as a whole, checked, read through memory maps."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import torch
from torch import Tensor

from limbeck.errors import DataError
from limbeck.files import atomic_write_text, storage_error, temporary_path

__all__ = ["CacheStore", "Column"]

_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Column:
    """One array of the store.

    Attributes:
        name: what it holds, unique within the store.
        dtype: type of its numbers, as torch calls it, e.g. ``"float32"``.
        shape: of one row.
        digest: SHA-256 of its file.
        details: whatever its reader needs to know, JSON values.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Type of its numbers."""
        found = getattr(torch, self.dtype)
        assert isinstance(found, torch.dtype)
        return found

    @property
    def row_bytes(self) -> int:
        """Size of one row."""
        return math.prod(self.shape) * self.torch_dtype.itemsize


class CacheStore:
    """A directory of arrays with the same number of rows each, under one key.

    A file gets its name when it is complete, and counts from when the manifest names it: a process that is killed
    leaves nothing that could be taken for a result. Whoever writes holds the directory
    (:func:`limbeck.engine.stages.locking.locked`); reading needs no lock.

    Args:
        directory: where the files are.
        key: fingerprint of all that the arrays depend on.
        rows: of each array.
    """

    def __init__(self, directory: Path, key: str, rows: int) -> None:
        self.directory = directory
        self.key = key
        self.rows = rows
        self.columns: dict[str, Column] = {}
        self._open: dict[str, Tensor] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # copies of a model that reads need no copies of what it reads

    def load(self) -> list[str]:
        """Take up what is there.

        Returns:
            What is damaged, one sentence per file; it is not taken up.
        """
        self.columns, self._open = {}, {}
        path = self.directory / _MANIFEST
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if (record["key"], record["rows"]) != (self.key, self.rows):
                return [f"{path} is of another cache"]
            found = [Column(**{**raw, "shape": tuple(raw["shape"])}) for raw in record["columns"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            return [f"{path} cannot be read ({type(error).__name__}: {error})"]
        problems = {column.name: self._damage(column) for column in found}
        self.columns = {column.name: column for column in found if not problems[column.name]}
        return [f"{self.path(name)} is damaged ({why})" for name, why in problems.items() if why]

    def path(self, name: str) -> Path:
        """The file of an array."""
        return self.directory / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.bin"

    def _damage(self, column: Column) -> str:
        """Why an array cannot be used; empty if it can. Reads all of it."""
        try:
            size, wanted = self.path(column.name).stat().st_size, self.rows * column.row_bytes
            if size != wanted:
                return f"{size} bytes, not {wanted}"
            with self.path(column.name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, AttributeError, AssertionError) as error:
            return str(error)
        return "" if digest == column.digest else "its checksum is not that of its content"

    @contextlib.contextmanager
    def writing(self, columns: Mapping[str, Column]) -> Iterator[Writer]:
        """Write arrays, part by part in the order of the rows; they count once the block ends.

        Args:
            columns: name to what is written.

        Yields:
            Takes the parts.

        Raises:
            StorageError: the disk is full, or permission is missing.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with Writer(self, columns) as writer:
                yield writer
                written = writer.finish()
        except OSError as error:
            raise storage_error(self.directory, error) from None
        self.columns = {**self.columns, **written}
        self._open = {}
        record = {"key": self.key, "rows": self.rows, "columns": [asdict(column) for column in self.columns.values()]}
        atomic_write_text(self.directory / _MANIFEST, json.dumps(record, indent=2) + "\n")

    def array(self, name: str) -> Tensor:
        """An array as it is stored, shape (rows, ...), without reading it: it is mapped into memory.

        Raises:
            DataError: the file is gone.
        """
        found = self._open.get(name)
        if found is None:
            column = self.columns[name]
            count = self.rows * math.prod(column.shape)
            try:
                flat = torch.from_file(str(self.path(name)), shared=False, size=count, dtype=column.torch_dtype)
            except RuntimeError as error:
                raise DataError(f"{self.path(name)} cannot be read ({str(error).splitlines()[0]}); run again") from None
            found = self._open[name] = flat.view(self.rows, *column.shape)
        return found


class Writer:
    """Writes the parts of arrays; see :meth:`CacheStore.writing`."""

    def __init__(self, store: CacheStore, columns: Mapping[str, Column]) -> None:
        self._store = store
        self._columns = columns
        self._hashes = {name: hashlib.sha256() for name in columns}
        self._temporary = {name: temporary_path(store.directory) for name in columns}
        self._files: dict[str, IO[bytes]] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for name in self._columns:
            self._files[name] = self._stack.enter_context(self._temporary[name].open("wb"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for name in self._columns:
            with contextlib.suppress(OSError):
                self._temporary[name].unlink()

    def add(self, name: str, rows: Tensor) -> None:
        """Write the next rows of an array, shape (rows, ...), of the type of its column."""
        column = self._columns[name]
        assert tuple(rows.shape[1:]) == column.shape
        raw = rows.detach().cpu().to(column.torch_dtype).contiguous().flatten().view(torch.uint8).numpy().data
        self._hashes[name].update(raw)
        # Not through a memory map: on a full disk that would kill the process rather than raise an error.
        self._files[name].write(raw)

    def finish(self) -> dict[str, Column]:
        """Give the complete files their names."""
        found = {}
        for name, column in self._columns.items():
            file = self._files[name]
            file.flush()
            os.fsync(file.fileno())
            assert file.tell() == self._store.rows * column.row_bytes
            os.replace(self._temporary[name], self._store.path(name))
            found[name] = Column(name, column.dtype, column.shape, self._hashes[name].hexdigest(), column.details)
        return found
