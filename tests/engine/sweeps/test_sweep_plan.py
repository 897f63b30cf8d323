"""What a sweep trains, and in which order."""

from __future__ import annotations

from pathlib import Path

from limbeck.engine.sweeps.sweep import Sweep
from limbeck.engine.sweeps.sweep_plan import plan
from tests.engine.sweeps.small_sweeps import WEIGHTS, WIDTHS, sweep
from tests.tiny import STEPS


def labels(made: Sweep) -> list[list[str]]:
    return [[f"{part.point} {part.method} {part.seed}" for part in parts] for parts in plan(made.points)]


class TestPlan:
    def test_every_model_once(self, tmp_path: Path) -> None:
        """A teacher for all, a scratch student for each width, a surrogate for each point."""
        first, second = labels(sweep(tmp_path, WIDTHS, WEIGHTS))
        assert first == ["0 None 0", "0 scratch 0", "3 scratch 0"]
        assert second == [f"{point} surrogate 0" for point in range(6)]

    def test_the_longest_trainings_come_first(self, tmp_path: Path) -> None:
        first, _ = labels(sweep(tmp_path, WIDTHS, training=STEPS | {"steps": 20}))
        assert first == ["0 scratch 0", "1 scratch 0", "0 None 0"]

    def test_teachers_that_differ_are_all_trained(self, tmp_path: Path) -> None:
        first, second = labels(sweep(tmp_path, "--over=teacher.width,student.width=3,5", "--seeds=2"))
        assert {part for part in first if "None" in part} == {"0 None 0", "1 None 0"}
        assert len(second) == 4

    def test_a_teacher_that_needs_no_training_is_not_planned(self, tmp_path: Path) -> None:
        first, second = labels(sweep(tmp_path, WIDTHS, teacher_training=None))
        assert len(first) == 4
        assert second == []
