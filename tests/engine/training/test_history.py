"""The history of a training as a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.engine.stages.progress import Progress
from limbeck.engine.training.history import History, HistoryRecorder


class TestHistory:
    ROWS = (
        {"step": 10, "total": 3.5, "y": 3.0, "z1": 0.5, "learning_rate": 1e-3, "seconds": 1.25},
        {"step": 20, "total": 3.0, "y": 3.0, "late": 0.0, "learning_rate": 5e-4, "seconds": 2.5},
    )

    def test_round_trip(self, tmp_path: Path) -> None:
        history = History([dict(row) for row in self.ROWS])
        history.write(tmp_path / "history.csv")
        found = History.read(tmp_path / "history.csv")
        assert [dict(row) for row in found.rows] == [dict(row) for row in self.ROWS]
        assert found.seconds == 2.5

    def test_layout(self, tmp_path: Path) -> None:
        History([dict(row) for row in self.ROWS]).write(tmp_path / "history.csv")
        lines = (tmp_path / "history.csv").read_text().splitlines()
        assert lines[0] == "step,total,y,z1,late,learning_rate,seconds"
        assert lines[2] == "20,3,3,,0,0.0005,2.5"

    def test_late_steps_keep_all_their_digits(self, tmp_path: Path) -> None:
        History([{"step": 12345678, "total": 1.0}]).write(tmp_path / "history.csv")
        step = History.read(tmp_path / "history.csv").rows[0]["step"]
        assert (step, type(step)) == (12345678, int)

    def test_of_nothing(self, tmp_path: Path) -> None:
        History().write(tmp_path / "history.csv")
        assert History.read(tmp_path / "history.csv").rows == []
        assert History().seconds == 0.0


class TestSums:
    """Of a row that is being filled, in checkpoints."""

    def filled(self, sums: dict[Any, Tensor]) -> HistoryRecorder:
        found = HistoryRecorder(History(), 10, Progress())
        found.load_state_dict({"rows": [], "sums": sums, "count": 3})
        return found

    def test_of_earlier_checkpoints(self) -> None:
        """Their keys are texts: a name per line, what was observed after a tab."""
        found = self.filled({"y\nz1\n\tinformation/h[0]": torch.ones(3), "y": torch.zeros(1)})
        assert list(found.state_dict()["sums"]) == [(("y", "z1"), ("information/h[0]",)), (("y",), ())]

    def test_are_kept(self) -> None:
        sums = {(("y", "a\tb\nc"), ("\td",)): torch.ones(3)}
        buffer = io.BytesIO()
        torch.save(self.filled(sums).state_dict(), buffer)
        buffer.seek(0)
        state = torch.load(buffer, weights_only=True)
        assert list(self.filled(state["sums"])._sums) == list(sums)
        assert state["count"] == 3
