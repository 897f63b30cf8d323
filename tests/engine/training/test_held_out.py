"""What a validation measures: the loss on rows, or the objective on draws of the teacher that no step sees."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck import methods
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.pairs.record import record
from limbeck.engine.pairs.recorded_teacher import RecordedTeacher
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.training.fit import Fitted, fit
from limbeck.engine.training.module import StudentModule
from limbeck.errors import NonFiniteLossError
from tests.engine.training.validated import Broken, Line, at, fitted, options
from tests.listening import Recorder
from tests.sampler import Sampler
from tests.tiny import built, counted, in_child, rows


class TestHowItIsMeasured:
    def test_in_eval_mode_and_with_the_same_noise(self) -> None:
        student, found = fitted(Line(noise=1.0, norm=True), learning_rate=1e-12, steps=6)
        measured = {row["validation"] for row in found.history.rows if "validation" in row}
        assert max(measured) - min(measured) < 1e-6
        assert student.modes == [True, True, False] * 3
        assert student.norm.running_mean.item() == pytest.approx(10.0 * (1 - 0.9**found.best_step), rel=1e-4)

    def test_mean_over_all_rows_whatever_the_chunks(self) -> None:
        validation = Batch(torch.arange(37.0).view(-1, 1))
        _, found = fitted(validation=validation, steps=1, batch_size=2)
        expected = 0.5 * (validation.y - 0.1).square().mean().item()
        assert found.validation == pytest.approx(expected, rel=1e-5)

    def test_bytes_are_measured_as_floats(self) -> None:
        images = (255 * rows().y).to(torch.uint8)
        student = built()
        found = fit(student, methods.scratch(), options(steps=2), data=Batch(images), validation=Batch(images))
        assert found.validation == pytest.approx(student.loss(Batch(images.float() / 255)).total.item(), rel=1e-5)

    def test_not_a_number_is_no_best(self) -> None:
        """Infinite at first, then finite: the finite one is kept, and patience has counted the infinite ones."""

        class Late(Line):
            def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
                total = super().loss(batch).total
                return Loss.of({"y": total if self.training or self.point > 0.5 else total * math.nan})

        _, found = fitted(Late(), validation=at(10.0), steps=10)
        measured = [row["validation"] for row in found.history.rows if "validation" in row]
        assert measured[0] == math.inf
        assert found.best_step == 10
        assert math.isfinite(found.validation)

    def test_a_loss_that_is_never_finite_is_told(self) -> None:
        with pytest.raises(NonFiniteLossError, match="on the 10 validation rows was NaN or infinite each time"):
            fitted(Broken(), validation=at(-1.0))


class TestUnseenPairs:
    """What is measured is the objective, on draws of the teacher that no step sees."""

    def learned(self, teacher: DGM, **changes: Any) -> tuple[DGM, Fitted]:
        student = built(Sampler, seed=1)
        keys = ("directory", "progress", "objective", "validation")
        arguments = {key: changes.pop(key) for key in keys if key in changes}
        objective = arguments.pop("objective", methods.surrogate(0.0))
        settings = options(**{"learning_rate": 0.02, "validate_every": 4} | changes)
        return student, fit(student, objective, settings, teacher=teacher, **arguments)

    def replayed(self, directory: Path, **changes: Any) -> RecordedTeacher:
        settings = {"count": 16, "held_out": 12, "page_rows": 4, "shard_rows": 8, "dtype": "float32"}
        return record(built(Sampler), Pairs(**settings | changes), directory)

    def test_every_held_out_pair_is_measured_once(self, tmp_path: Path) -> None:
        teacher = self.replayed(tmp_path)
        told = Recorder()
        student, found = self.learned(teacher, steps=4, batch_size=2, progress=told)  # parts of 8 and 4 rows
        with teacher.held_out.reading(0, 12), torch.no_grad():
            expected = methods.surrogate(0.0)(teacher.held_out, student, batch_size=12).total.item()
        assert found.validation == pytest.approx(expected, rel=1e-5)
        assert told.messages == [
            f"training: done after 4 steps; best on unseen pairs at step 4: {found.validation:.6g}"
        ]

    def test_too_few_pairs_are_learned_by_heart(self, tmp_path: Path) -> None:
        """A wide student of four pairs: those held out get worse long before the end."""
        teacher = self.replayed(tmp_path, count=4, held_out=64)

        class Wide(Sampler):
            def __init__(self) -> None:
                super().__init__()
                self.wide = nn.Sequential(nn.Linear(16, 256), nn.Tanh(), nn.Linear(256, 16))

            def step(self, state: Tensor, others: list[Tensor]) -> Tensor:
                return self.wide(state.flatten(1)).view_as(state)

        student = built(Wide, seed=1)
        settings = options(steps=200, learning_rate=0.01, validate_every=5, patience=4, optimizer="adam")
        found = fit(student, methods.surrogate(0.0), settings, teacher=teacher)
        assert 0 < found.best_step < found.steps_taken < 200

    def test_fresh_draws_are_the_same_each_time(self) -> None:
        _, found = self.learned(built(Sampler), learning_rate=1e-12, steps=8, validate_every=2)
        measured = {row["validation"] for row in found.history.rows if "validation" in row}
        assert max(measured) - min(measured) < 1e-6
        assert len(measured) >= 1

    def test_fresh_draws_are_never_those_of_a_step(self) -> None:
        teacher = Watching()
        self.learned(teacher, steps=6, validate_every=3)
        steps, validations = teacher.seen
        assert (len(steps), len(validations)) == (6 * 4, 2 * 16 * 4)
        assert len(set(validations)) == 16 * 4
        assert not set(steps) & set(validations)

    def test_changes_no_step(self, tmp_path: Path) -> None:
        for number, teacher in enumerate((built(Sampler), self.replayed(tmp_path))):
            student, found = self.learned(teacher, steps=8, ema=0.5 if number else None)
            plain, _ = self.learned(teacher, steps=8, ema=0.5 if number else None, validate_every=None)
            assert found.best_step == 8
            assert weights_fingerprint(student) == weights_fingerprint(plain)

    def test_the_average_is_what_is_measured(self, tmp_path: Path) -> None:
        teacher = self.replayed(tmp_path)
        student, found = self.learned(teacher, ema=0.8)
        with teacher.held_out.reading(0, 12), torch.no_grad():
            expected = methods.surrogate(0.0)(teacher.held_out, student, batch_size=12).total.item()
        assert found.validation == pytest.approx(expected, rel=1e-5)

    def test_conditioned_pairs_are_measured_too(self, tmp_path: Path) -> None:
        teacher = built(Sampler, classes=3)
        settings = Pairs(16, held_out=12, page_rows=4, shard_rows=8)
        replayed = record(teacher, settings, tmp_path, inputs=torch.eye(3))
        for source, x in ((replayed, None), (teacher, torch.eye(3))):
            student = built(Sampler, seed=1, classes=3)
            found = fit(student, methods.surrogate(0.0), options(learning_rate=0.02), teacher=source, teacher_inputs=x)
            assert found.best_step > 0

    def test_continues_bit_for_bit(self, tmp_path: Path) -> None:
        teacher = self.replayed(tmp_path / "pairs")
        expected, whole = self.learned(teacher)

        def victim() -> None:
            StudentModule.training_step = counted(StudentModule.training_step, 15)  # type: ignore[method-assign]
            self.learned(teacher, directory=tmp_path / "run")

        assert in_child(victim) == -9
        student, found = self.learned(teacher, directory=tmp_path / "run")
        assert found.resumed_at > 0
        assert weights_fingerprint(student) == weights_fingerprint(expected)
        assert (found.best_step, found.validation) == (whole.best_step, whole.validation)

    def test_rows_where_there_are_any_unless_it_is_said(self, tmp_path: Path) -> None:
        """As it was before there were pairs; recorded ones are preferred by who asks for them."""

        def on(teacher: DGM, **changes: Any) -> str:
            told = Recorder()
            student = Line()
            fit(student, methods.surrogate(), options(steps=2, **changes), teacher=teacher, validation=at(0.5),
                progress=told)  # fmt: skip
            return told.messages[-1].split("best on ")[1].split(" at")[0]

        assert on(Line()) == "validation rows"
        assert on(Line(), validate_on="pairs") == "unseen pairs"
        assert on(record(Line(), Pairs(8, held_out=4, page_rows=4, shard_rows=4), tmp_path)) == "unseen pairs"


class Watching(Sampler):
    """Remembers the rows of noise that it was asked for, in training and in validation."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: tuple[list[Any], list[Any]] = ([], [])

    def trace(self, batch_size: int | None = None, *arguments: Any, **named: Any) -> Any:
        found = super().trace(batch_size, *arguments, **named)
        measuring = any(frame.function == "_measure" for frame in inspect.stack(0))
        self.seen[measuring].extend(tuple(row.tolist()) for row in found["x_T"].noise.flatten(1))
        return found
