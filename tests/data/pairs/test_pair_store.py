"""Shards of pairs: what is written is read, and nothing damaged, foreign or half-written ever counts."""

from __future__ import annotations

import copy
import errno
import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import limbeck.files
from limbeck.data.pairs.claims import claims
from limbeck.data.pairs.layout import PairField, PairLayout, decode, encode
from limbeck.data.pairs.store import PairStore
from limbeck.errors import DataError, StorageError
from tests.tiny import die, in_child

PAGE, SHARD = 4, 8


def layout(key: str = "key", **details: object) -> PairLayout:
    fields = (PairField("x_0", (1, 2, 2), "uint8"), PairField("x[3]", (3,), "float16"))
    return PairLayout(key, PAGE, SHARD, fields, details)


def rows(shard: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(shard)
    images = torch.randint(0, 256, (SHARD, 1, 2, 2), dtype=torch.uint8, generator=generator)
    return {"x_0": images, "x[3]": torch.randn(SHARD, 3, generator=generator).half()}


def store(directory: Path, shards: int = 3) -> PairStore:
    made = PairStore.create(directory, layout())
    for shard in range(shards):
        made.write(shard, rows(shard))
    return made


class TestNumbers:
    def test_bytes_are_rounded_not_truncated(self) -> None:
        """Half a level is the largest error; truncation would lose up to a whole one, and half of one on average."""
        values = torch.linspace(0, 1, 10_001)
        error = decode(encode(values, "uint8"), torch.float32) - values
        assert error.abs().max() <= 0.5 / 255 + 1e-6
        assert abs(error.mean()) < 1e-5

    def test_bytes_are_clamped(self) -> None:
        assert encode(torch.tensor([-3.0, 0.0, 1.0, 7.0]), "uint8").tolist() == [0, 0, 255, 255]

    @given(st.floats(-100, 100, width=16))
    def test_half_precision_keeps_its_numbers(self, value: float) -> None:
        assert decode(encode(torch.tensor([value]), "float16"), torch.float64).item() == value

    def test_every_byte_comes_back(self) -> None:
        levels = torch.arange(256, dtype=torch.uint8)
        assert torch.equal(encode(decode(levels, torch.float32), "uint8"), levels)
        # In half precision each is the nearest number there, not the quotient of two rounded ones.
        assert torch.equal(decode(levels, torch.bfloat16), (levels.double() / 255).bfloat16())


class TestReading:
    def test_pages_in_any_order(self, tmp_path: Path) -> None:
        made = store(tmp_path)
        found = made.read("x[3]", [5, 0, 5])
        expected = [rows(2)["x[3]"][PAGE:], rows(0)["x[3]"][:PAGE], rows(2)["x[3]"][PAGE:]]
        assert torch.equal(found, torch.cat(expected))

    def test_half_precision_is_read_in_mixed_precision(self, tmp_path: Path) -> None:
        """As a step of a training with ``bf16-mixed`` reads it."""
        found = store(tmp_path)
        with torch.autocast("cpu", torch.bfloat16):
            read = found.read("x[3]", [3, 0])
        assert torch.equal(read, torch.cat([rows(1)["x[3]"][PAGE:], rows(0)["x[3]"][:PAGE]]))

    def test_opened_again(self, tmp_path: Path) -> None:
        store(tmp_path)
        again = PairStore.find(tmp_path)
        assert again is not None
        assert again.layout == layout()
        assert torch.equal(again.read("x_0", [3]), rows(1)["x_0"][PAGE:])

    def test_copies_read_the_same_files(self, tmp_path: Path) -> None:
        made = store(tmp_path)
        made.read("x_0", [0])
        assert copy.deepcopy(made) is made
        assert torch.equal(pickle.loads(pickle.dumps(made)).read("x_0", [1]), rows(0)["x_0"][PAGE:])

    def test_missing_shard(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"shard-00003\.safetensors cannot be read .* run again to make it anew"):
            store(tmp_path).read("x_0", [6])

    def test_files_are_the_same_each_time(self, tmp_path: Path) -> None:
        store(tmp_path / "a")
        store(tmp_path / "b")
        for name in (f"shard-{shard:05d}.safetensors" for shard in range(3)):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    def test_size(self, tmp_path: Path) -> None:
        assert layout().row_bytes == 4 + 3 * 2
        made = store(tmp_path)
        assert 0 < made.path(0).stat().st_size - SHARD * layout().row_bytes < 400
        assert list(made.shards(SHARD + 1)) == [0, 1]


class TestDamage:
    def test_sound(self, tmp_path: Path) -> None:
        assert not any(store(tmp_path).damage(shard) for shard in range(3))

    @pytest.mark.parametrize("place", [0, 9, 60, -30, -1])
    def test_every_bit_counts(self, tmp_path: Path, place: int) -> None:
        made = store(tmp_path)
        raw = bytearray(made.path(1).read_bytes())
        raw[place] ^= 4
        made.path(1).write_bytes(raw)
        assert made.damage(1)
        assert not made.damage(0)

    @pytest.mark.parametrize("size", [0, 5, 100, -1])
    def test_truncated(self, tmp_path: Path, size: int) -> None:
        made = store(tmp_path)
        made.path(1).write_bytes(made.path(1).read_bytes()[:size])
        assert made.damage(1)

    def test_sound_but_of_another_place(self, tmp_path: Path) -> None:
        made = store(tmp_path / "a")
        made.path(1).write_bytes(made.path(0).read_bytes())
        assert "checksum" in made.damage(1)
        other = PairStore.create(tmp_path / "b", layout("another"))
        other.write(0, rows(0))
        made.path(0).write_bytes(other.path(0).read_bytes())
        assert "checksum" in made.damage(0)

    def test_another_layout(self, tmp_path: Path) -> None:
        store(tmp_path)
        with pytest.raises(DataError, match="holds pairs of another teacher or layout"):
            PairStore.create(tmp_path, layout("another"))

    def test_manifest_that_is_none(self, tmp_path: Path) -> None:
        assert PairStore.find(tmp_path) is None
        (tmp_path / "manifest.json").write_text('{"key": 1}')
        with pytest.raises(DataError, match=r"manifest\.json cannot be read .*delete the directory"):
            PairStore.find(tmp_path)

    def test_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = store(tmp_path)

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(limbeck.files.os, "fsync", full)
        with pytest.raises(StorageError, match=r"shard-00007\.safetensors.*the disk is full; free some space"):
            made.write(7, rows(7))
        assert not made.has(7)
        assert not list(tmp_path.glob(".limbeck*"))


class TestClaims:
    """Locks hold between processes: the other side of each is a child."""

    def taken(self, path: Path, shard: int) -> bool:
        def other() -> int:
            with claims(path) as held:
                return int(held.take(shard))

        return in_child(other) == 0

    def test_taken_by_one(self, tmp_path: Path) -> None:
        path = tmp_path / "locks"
        with claims(path) as held:
            assert held.take(3)
            assert self.taken(path, 3)
            assert not self.taken(path, 4)
            held.release(3)
            assert not self.taken(path, 3)

    def test_die_with_their_process(self, tmp_path: Path) -> None:
        path = tmp_path / "locks"

        def victim() -> None:
            with claims(path) as held:
                held.take(3)
                die()

        assert in_child(victim) == -9
        with claims(path) as held:
            assert held.take(3)

    def test_leftovers_are_deleted_when_nobody_writes(self, tmp_path: Path) -> None:
        path, left = tmp_path / "locks", tmp_path / ".limbeck-0123.tmp"
        left.write_text("half")

        def other() -> None:
            with claims(path) as held:
                held.clean()

        with claims(path) as held:
            held.take(0)
            assert in_child(other) == 0
            assert left.exists()
        assert in_child(other) == 0
        assert not left.exists()
