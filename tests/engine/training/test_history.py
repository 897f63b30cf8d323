"""The history of a training as a file."""

from __future__ import annotations

from pathlib import Path

from limbeck.engine.training.history import History


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
        assert History.read(tmp_path / "history.csv").rows[0]["step"] == 12345678

    def test_of_nothing(self, tmp_path: Path) -> None:
        History().write(tmp_path / "history.csv")
        assert History.read(tmp_path / "history.csv").rows == []
        assert History().seconds == 0.0
