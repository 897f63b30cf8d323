"""Several processes record together: each file is made once, and all are what one process makes."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.engine.pairs.pair_report import PairReport
from limbeck.engine.pairs.record import record
from tests.engine.pairs.recordings import pairs, recorded
from tests.listening import Recorder
from tests.sampler import Sampler
from tests.tiny import built, counted, die, hashes, in_child


class TestProcesses:
    def test_two_at_once_share_the_work(self, tmp_path: Path) -> None:
        """Each file is made by one of them, and all are what one process makes alone."""
        recorded(tmp_path / "alone", count=320)
        context = multiprocessing.get_context("fork")
        made = context.Queue()

        def work() -> None:
            teacher = Slow()
            teacher.load_state_dict(built(Sampler).state_dict())
            record(teacher, pairs(count=320), tmp_path / "shared", identity="the same")
            made.put(sum(teacher.runs))

        processes = [context.Process(target=work) for _ in range(2)]
        for process in processes:
            process.start()
        rows = [made.get(timeout=60) for _ in processes]
        for process in processes:
            process.join()
        assert min(rows) > 32
        assert sum(rows) <= 320 + 2 * 2  # each ran two rows to see what the sites are, unless the other had
        alone, shared = (sorted(hashes(tmp_path / name).items()) for name in ("alone", "shared"))
        # Under another name of the teacher, and so under another seal: the numbers are the same.
        assert len(alone) == len(shared) == 20
        for (one, _), (other, _) in zip(alone, shared, strict=True):
            assert body(tmp_path / "alone" / one) == body(tmp_path / "shared" / other)

    def test_who_dies_leaves_its_part_to_others(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        recorded(tmp_path / "whole", count=64)

        def victim() -> None:
            monkeypatch.setattr(PairReport, "made", counted(PairReport.made, 2, die))
            recorded(tmp_path / "shared", count=64)

        assert in_child(victim) == -9
        recorded(tmp_path / "shared", count=64)
        assert hashes(tmp_path / "shared") == hashes(tmp_path / "whole")

    @pytest.mark.slow
    def test_workers_record_what_one_process_does(self, tmp_path: Path) -> None:
        recorded(tmp_path / "alone", count=320)
        teacher, told = built(Sampler), Recorder()
        recorded(tmp_path / "helped", teacher, count=320, workers=2, progress=told)
        assert hashes(tmp_path / "alone") == hashes(tmp_path / "helped")
        assert told.steps[-1][0] == told.stages[0][1] == 40
        assert "by each of 2 processes" in told.messages[1]


class Slow(Sampler):
    """Long enough for the other process to come."""

    def generate(self, *arguments: Any) -> None:
        torch.linalg.svd(torch.rand(150, 150))
        super().generate(*arguments)


def body(path: Path) -> bytes:
    raw = path.read_bytes()
    return raw[8 + int.from_bytes(raw[:8], "little") :]
