"""Recorded pairs on disk: sharded, memory-mapped when read, each shard whole or absent and checked by its own hash."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from typing_extensions import override

from limbeck.data.pairs.layout import PairLayout
from limbeck.errors import DataError
from limbeck.files import atomic_write_bytes, atomic_write_text, storage_error

__all__ = ["CLAIMS", "PairStore"]

MANIFEST = "manifest.json"
CLAIMS = "claims.lock"
_LENGTH = struct.Struct("<Q")  # a safetensors file begins with the length of its header


class PairStore:
    """A directory of shards, ``shard-00000.safetensors`` and so on, with a manifest that says what they hold.

    Args:
        directory: where it is.
        layout: what it holds.
    """

    def __init__(self, directory: Path, layout: PairLayout) -> None:
        self.directory = directory
        self.layout = layout
        self._open: dict[int, dict[str, Any]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Files are the same for every copy of a model that reads them."""
        return self

    @override
    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: it opens the files itself."""
        return {**vars(self), "_open": {}}

    @classmethod
    def create(cls, directory: Path, layout: PairLayout) -> PairStore:
        """A store for a layout, new or the one that is there.

        Raises:
            DataError: the directory holds a store of another layout.
            StorageError: it cannot be written.
        """
        found = cls.find(directory)
        if found is None:
            atomic_write_text(directory / MANIFEST, layout.to_json())
            return cls(directory, layout)
        if found.layout != cls(directory, PairLayout.from_json(layout.to_json())).layout:
            raise DataError(f"{directory} holds pairs of another teacher or layout; delete it, or choose another place")
        return found

    @classmethod
    def find(cls, directory: Path) -> PairStore | None:
        """The store in a directory; ``None`` if there is none that can be read."""
        try:
            return cls(directory, PairLayout.from_json((directory / MANIFEST).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{directory / MANIFEST} cannot be read ({type(error).__name__}: {error}); delete the directory "
                f"{directory}, and the pairs are made again"
            ) from None

    def shards(self, rows: int) -> range:
        """Numbers of the shards that the first ``rows`` rows take."""
        return range(-(-rows // self.layout.shard_rows))

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.directory / f"shard-{shard:05d}.safetensors"

    def has(self, shard: int) -> bool:
        """Whether a shard is there."""
        return self.path(shard).exists()

    def write(self, shard: int, rows: Mapping[str, Tensor]) -> None:
        """Write a shard, whole or not at all.

        Args:
            shard: its number.
            rows: field name to values as stored, shape (shard_rows, ...).

        Raises:
            StorageError: the disk is full, or permission is missing.
        """
        tensors = {part.name: rows[part.name].contiguous() for part in self.layout.fields}
        # Saved twice: the hash of the numbers precedes them. A single entry, since the order of several is not fixed.
        digest = hashlib.sha256(_body(save(tensors))).hexdigest()
        atomic_write_bytes(self.path(shard), save(tensors, {"limbeck": self._seal(shard, digest)}))

    def damage(self, shard: int) -> str:
        """Why a shard that is there cannot be used; empty if it can. Reads all of it."""
        try:
            handle: Any = safe_open(self.path(shard), framework="pt")
            for part in self.layout.fields:
                kept = handle.get_slice(part.name)
                if tuple(kept.get_shape()) != (self.layout.shard_rows, *part.shape):
                    return f"its {part.name!r} has the shape {tuple(kept.get_shape())}"
            seal = (handle.metadata() or {}).get("limbeck", "")
            with self.path(shard).open("rb") as file:
                file.seek(_LENGTH.size + _LENGTH.unpack(file.read(_LENGTH.size))[0])
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except (SafetensorError, OSError, ValueError, struct.error) as error:
            return " ".join(str(error).split())
        return "" if seal == self._seal(shard, digest) else "its checksum is not that of its content"

    def _seal(self, shard: int, digest: str) -> str:
        """What a shard says of itself: an intact one under another's name, or of another store, is refused, too."""
        return f"{self.layout.key} {shard} {digest}"

    def remove(self, shard: int) -> None:
        """Delete a shard.

        Raises:
            StorageError: permission is missing.
        """
        self._open.pop(shard, None)
        try:
            self.path(shard).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(self.path(shard), error) from None

    def read(self, name: str, pages: Sequence[int]) -> Tensor:
        """Rows of one array, page after page, as they are stored.

        Args:
            name: of the field.
            pages: numbers of pages; a page may come twice.

        Returns:
            Shape (len(pages) * page_rows, ...).

        Raises:
            DataError: a page is in no shard that is there.
        """
        size = self.layout.page_rows
        of_shard = self.layout.shard_rows // size
        parts = []
        for page in pages:
            shard, offset = divmod(page, of_shard)
            parts.append(self._slices(shard)[name][offset * size : (offset + 1) * size])
        with torch.autocast("cpu", enabled=False):  # in which torch refuses to join tensors of float16
            return torch.cat(parts)

    def _slices(self, shard: int) -> dict[str, Any]:
        """The arrays of a shard as slices of a memory map. An open shard takes address space, no file descriptor."""
        found = self._open.get(shard)
        if found is None:
            try:
                handle: Any = safe_open(self.path(shard), framework="pt")
                found = {part.name: handle.get_slice(part.name) for part in self.layout.fields}
            except (SafetensorError, OSError) as error:
                reason = " ".join(str(error).split())
                raise DataError(f"{self.path(shard)} cannot be read ({reason}); run again to make it anew") from None
            self._open[shard] = found
        return found


def _body(raw: bytes) -> memoryview:
    """The numbers in the bytes of a safetensors file."""
    return memoryview(raw)[_LENGTH.size + _LENGTH.unpack_from(raw)[0] :]
