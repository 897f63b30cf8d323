"""Stopping by validation: which weights are kept, when a training ends, and that an interruption changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck import methods
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.engine.distill import distill
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.training.checkpoints import LAST, read_checkpoint
from limbeck.engine.training.fit import Fitted, fit
from limbeck.errors import DataError, RecipeError
from tests.engine.training.validated import Gaussian, Line, Loaded, at, fitted, options
from tests.listening import Interrupting, Recorder
from tests.tiny import built, counted, die, in_child, rows


class TestWhatIsKept:
    def test_the_best_of_those_that_were_measured(self) -> None:
        student, found = fitted()
        by_step = {row["step"]: row["validation"] for row in found.history.rows if "validation" in row}
        assert sorted(by_step) == list(range(2, 21, 2))
        assert by_step[found.best_step] == min(by_step.values()) == found.validation
        assert found.best_step in (4, 6)
        assert student.loss(at(0.5)).total.item() == pytest.approx(found.validation, rel=1e-6)
        assert abs(student.point.item() - 0.5) <= 0.1 < abs(fitted(validation=at(10.0))[0].point.item() - 0.5)

    def test_validation_alone_changes_no_step(self) -> None:
        """Where the last weights are the best, they are those of a training without validation, bit for bit."""
        student, found = fitted(Line(noise=1.0), validation=at(10.0), steps=7)
        plain = Line(noise=1.0)
        fit(plain, methods.scratch(), options(steps=7, validate_every=None), data=at(10.0))
        assert found.best_step == found.steps_taken == 7
        assert weights_fingerprint(student) == weights_fingerprint(plain)

    def test_last_step_is_measured_too(self) -> None:
        _, found = fitted(validation=at(10.0), steps=5, validate_every=3)
        assert [row["step"] for row in found.history.rows if "validation" in row] == [3, 5]
        assert found.best_step == 5

    def test_without_patience_all_steps_are_taken(self) -> None:
        assert fitted()[1].steps_taken == 20

    def test_moving_average_is_what_is_measured_and_kept(self) -> None:
        student, found = fitted(ema=0.9)
        assert student.loss(at(0.5)).total.item() == pytest.approx(found.validation, rel=1e-6)
        assert found.best_step > fitted()[1].best_step  # the average follows behind

    def test_average_and_steps_go_on_as_without_validation(self) -> None:
        student, found = fitted(ema=0.9, validation=at(10.0))
        plain = Line()
        fit(plain, methods.scratch(), options(ema=0.9, validate_every=None), data=at(10.0))
        assert found.best_step == 20
        assert weights_fingerprint(student) == weights_fingerprint(plain)

    def test_overfitting_is_stopped(self) -> None:
        """Of three rows the deviations are learned far too small; others notice long before the end."""
        torch.manual_seed(0)
        few, others = Batch(torch.randn(3, 8)), Batch(torch.randn(200, 8))
        student, over = Gaussian(), Gaussian()
        common = {"steps": 400, "batch_size": 3, "learning_rate": 0.02, "checkpoint_every": 500}
        settings = options(**common, validate_every=5, patience=4)
        found = fit(student, methods.scratch(), settings, data=few, validation=others)
        fit(over, methods.scratch(), options(**common, validate_every=None), data=few)
        assert 0 < found.best_step < found.steps_taken < 200
        assert student.loss(others).total < over.loss(others).total - 1.0
        assert student.loss(few).total > over.loss(few).total + 1.0

    def test_a_student_that_sees_no_data_is_validated_on_it(self) -> None:
        teacher = Line()
        with torch.no_grad():
            teacher.point.fill_(10.0)
        student = Line()
        found = fit(student, methods.surrogate(), options(), teacher=teacher, validation=at(0.5))
        assert abs(student.point.item() - 0.5) <= 0.1
        assert found.best_step < 20


class TestStopping:
    def test_it_stops_after_patience(self) -> None:
        _, found = fitted(patience=3)
        assert found.steps_taken == found.best_step + 2 * 3 < 20
        assert found.history.rows[-1]["step"] == found.steps_taken

    def test_best_is_the_same_as_without(self) -> None:
        assert weights_fingerprint(fitted(patience=2)[0]) == weights_fingerprint(fitted()[0])

    def test_is_told(self) -> None:
        recorder = Recorder()
        _, found = fitted(patience=3, progress=recorder)
        assert recorder.losses == [row["validation"] for row in found.history.rows if "validation" in row]
        assert recorder.stops == [found.steps_taken]
        told = f"stopped after {found.steps_taken} steps; best on validation rows at step {found.best_step}"
        assert told in recorder.messages[-1]


class TestInterruption:
    """At any moment, by kill -9: the same weights, numbers and steps as without."""

    def run(self, directory: Path, **changes: Any) -> tuple[DGM, Fitted]:
        return fitted(Line(noise=0.3, norm=True), directory=directory, patience=3, **changes)

    @pytest.mark.parametrize("ema", [None, 0.5])
    @pytest.mark.parametrize("every", [1, 2, 3])
    def test_continues_bit_for_bit(self, tmp_path: Path, ema: float | None, every: int) -> None:
        expected, whole = fitted(Line(noise=0.3, norm=True), patience=3, ema=ema)
        assert whole.steps_taken < 20
        resumed = set()
        for moment in range(2, whole.steps_taken + 1, 2):
            directory = tmp_path / str(moment)
            with pytest.raises(InterruptedError):
                self.run(directory, ema=ema, checkpoint_every=every, progress=Interrupting(moment), log_every=1)
            student, found = self.run(directory, ema=ema, checkpoint_every=every, log_every=1)
            assert weights_fingerprint(student) == weights_fingerprint(expected)
            same = (found.steps_taken, found.best_step, found.validation)
            assert same == (whole.steps_taken, whole.best_step, whole.validation)
            resumed.add(found.resumed_at)
        assert len(resumed) > 2

    def test_a_killed_training_ends_as_a_whole_one(self, tmp_path: Path) -> None:
        expected, whole = fitted(Line(noise=0.3, norm=True), patience=3)

        def victim() -> None:
            student = Line(noise=0.3, norm=True)
            student.loss = counted(student.loss, 16, die)  # type: ignore[method-assign]
            fitted(student, directory=tmp_path, patience=3)

        assert in_child(victim) == -9
        student, found = self.run(tmp_path)
        assert found.resumed_at == 9
        assert found.steps_taken == whole.steps_taken
        assert weights_fingerprint(student) == weights_fingerprint(expected)

    def test_one_killed_after_it_stopped_stops_there_again(self, tmp_path: Path) -> None:
        """The decision to stop needs no record: what led to it is repeated."""
        expected, whole = fitted(Line(noise=0.3, norm=True), patience=3)
        self.run(tmp_path, checkpoint_every=1)
        assert read_checkpoint(tmp_path / LAST)["global_step"] == whole.steps_taken - 1
        student, found = self.run(tmp_path, checkpoint_every=1)
        assert found.resumed_at == found.steps_taken - 1 == whole.steps_taken - 1
        assert weights_fingerprint(student) == weights_fingerprint(expected)


class TestRefusals:
    def test_rows_to_validate_on_are_needed(self) -> None:
        with pytest.raises(RecipeError, match=r"training is to stop .* there are none; give data"):
            fit(Line(), methods.scratch(), options(), data=at(1.0))
        with pytest.raises(DataError, match="validation split is empty"):
            fit(Line(), methods.scratch(), options(), data=at(1.0), validation=at(1.0, 0))

    def test_methods_that_see_data_are_not_validated_on_pairs(self) -> None:
        with pytest.raises(RecipeError, match="learns from rows of data and cannot be validated"):
            fitted(validate_on="pairs")

    def test_a_student_needs_a_loss(self) -> None:
        with pytest.raises(RecipeError, match=r"Loaded has no loss on data; define loss\(self, batch"):
            fit(Loaded(), methods.surrogate(), options(), teacher=Loaded(), validation=at(1.0))

    def test_a_loss_that_the_method_leaves_meaningless_is_refused(self) -> None:
        with pytest.raises(RecipeError, match="loss of Tiny on rows needs its inference network"):
            fit(built(), methods.surrogate(), options(), teacher=built(), validation=rows())


def test_distill_keeps_the_best_weights(tmp_path: Path) -> None:
    teacher, student = Line(), Line()
    with torch.no_grad():
        teacher.point.fill_(10.0)
    told = {"training": options(), "progress": False, "directory": tmp_path / "out"}
    distill(teacher, student, validation=at(0.5), **told)
    assert abs(student.point.item() - 0.5) <= 0.1
    again = Line()
    distill(teacher, again, validation=at(0.5), **told)
    assert torch.equal(again.point, student.point)
