"""What a recording tells of its size, its time and its numbers."""

from __future__ import annotations

from pathlib import Path

from tests.engine.pairs.recordings import recorded
from tests.listening import Recorder
from tests.sampler import Sampler
from tests.tiny import built


class TestWhatIsTold:
    def test_size_and_time_are_told(self, tmp_path: Path) -> None:
        told = Recorder()
        recorded(tmp_path, count=320, held_out=16, dtype="uint8", progress=told)
        assert told.messages[0].startswith("pairs: 336 pairs, 5.4 kB, of which 5.4 kB are still to be made in ")
        assert "pairs a second, about " in told.messages[1]
        assert told.stages == [("pairs", 42, 0)]
        assert told.steps[-1][0] == 42

    def test_nothing_new_is_told_of_finished_pairs(self, tmp_path: Path) -> None:
        recorded(tmp_path)
        told = Recorder()
        recorded(tmp_path, progress=told)
        assert told.messages == []
        assert told.stages == [("pairs", 8, 8)]

    def test_numbers_that_bytes_would_clamp_are_told(self, tmp_path: Path) -> None:
        told = Recorder()
        recorded(tmp_path, built(Sampler, extra=True), dtype="uint8", progress=told)
        assert any("of 'n' are outside [0, 1], and dtype uint8 clamps" in text for text in told.messages)
