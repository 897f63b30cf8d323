"""Training one model: what it changes, what it leaves alone, and what it needs."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from limbeck import methods
from limbeck.core.loss import Batch
from limbeck.core.objective import Match, Objective
from limbeck.core.trace import Kind
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.training.fit import fit
from limbeck.errors import MatchError
from tests.engine.training.short_trainings import distilled, options
from tests.listening import Interrupting, Recorder
from tests.tiny import LearnedScale, built, rows


class TestWhatItDoes:
    def test_loss_falls(self) -> None:
        _, found = distilled(options=options(steps=60, learning_rate=0.03, log_every=10))
        totals = [row["total"] for row in found.history.rows]
        assert len(totals) == 6
        assert totals[-1] < 0.5 * totals[0]

    def test_student_ends_in_eval_mode_ready_for_use(self) -> None:
        student, found = distilled()
        assert not any(module.training for module in student.modules())
        assert all(parameter.requires_grad for parameter in student.parameters())
        assert all(parameter.grad is None or not parameter.grad.is_sparse for parameter in student.parameters())
        assert found.resumed_at == 0

    def test_the_history_has_rows_of_all_terms(self) -> None:
        _, found = distilled(options=options(steps=10))
        history = found.history
        assert [row["step"] for row in history.rows] == [4, 8, 10]
        assert history.columns == ["step", "total", "z2", "z1", "y", "learning_rate", "seconds"]
        for row in history.rows:
            assert row["total"] == pytest.approx(row["y"] + row["z1"] + row["z2"], rel=1e-6)
        assert history.rows == sorted(history.rows, key=lambda row: row["seconds"])

    def test_rows_of_the_history_are_means_of_their_steps(self) -> None:
        one, four = (distilled(options=options(steps=8, log_every=every))[1].history.rows for every in (1, 4))
        for name in ("total", "y", "z1"):
            means = [sum(row[name] for row in one[start : start + 4]) / 4 for start in (0, 4)]
            assert [row[name] for row in four] == pytest.approx(means, rel=1e-5)

    def test_seed_fixes_everything(self) -> None:
        first, again, other = (weights_fingerprint(distilled(seed=seed)[0]) for seed in (0, 0, 1))
        assert first == again
        assert first != other

    def test_callers_random_numbers_do_not_matter_nor_move(self) -> None:
        torch.manual_seed(11)
        expected = torch.rand(3)
        first = weights_fingerprint(distilled()[0])
        torch.manual_seed(11)
        student, _ = distilled()
        assert torch.equal(torch.rand(3), expected)
        assert weights_fingerprint(student) == first

    def test_no_warnings_reach_the_user(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            distilled(options=options(steps=3))

    def test_bytes_are_learned_as_floats(self) -> None:
        batch = Batch((255 * rows().y).to(torch.uint8))
        student = built()
        fit(student, methods.scratch(), options(steps=3), data=batch)
        other = built()
        fit(other, methods.scratch(), options(steps=3), data=Batch(batch.y.float() / 255))
        assert weights_fingerprint(student) == weights_fingerprint(other)

    def test_progress_is_told(self) -> None:
        recorder = Recorder()
        _, found = distilled(progress=recorder, label="student")
        assert recorder.stages == [("student", 12, 0)]
        assert (12, found.history.rows[-1]["total"]) in recorder.steps


class TestWhatItLeavesAlone:
    def test_the_teacher_is_left_alone(self) -> None:
        teacher = built(width=8, norm=True)
        before = weights_fingerprint(teacher)
        distilled(teacher=teacher)
        assert weights_fingerprint(teacher) == before
        assert all(parameter.grad is None for parameter in teacher.parameters())

    def test_the_inference_network_is_left_alone_without_data(self) -> None:
        student = built(seed=1, width=3)
        before = {name: value.clone() for name, value in student.state_dict().items()}
        distilled(student=student, options=options(weight_decay=0.1))
        moved = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
        assert moved == {name for name in before if not name.startswith("encoder.")}

    def test_the_inference_network_is_trained_on_data(self) -> None:
        student = built(seed=1, width=3)
        before = student.encoder.weight.clone()
        fit(student, methods.joint(0.5), options(), teacher=built(width=8), data=rows())
        assert not torch.equal(student.encoder.weight, before)

    def test_frozen_parameters_stay_frozen(self) -> None:
        student = built(seed=1, width=3)
        student.prior.requires_grad_(False)
        before = student.prior.weight.clone()
        distilled(student=student)
        assert torch.equal(student.prior.weight, before)
        assert not student.prior.weight.requires_grad


class TestLearnedDivergence:
    def test_is_trained_with_the_student_and_continues(self, tmp_path: Path) -> None:
        def objective() -> Objective:
            return Objective([Match(divergence=LearnedScale(), kind=Kind.TARGET)])

        trained = objective()
        distilled(objective=trained)
        scale = trained.divergences[0].raw.item()
        assert scale != 0.0

        with pytest.raises(InterruptedError):
            distilled(objective=objective(), directory=tmp_path, progress=Interrupting(8))
        continued = objective()
        _, found = distilled(objective=continued, directory=tmp_path)
        assert found.resumed_at == 5
        assert continued.divergences[0].raw.item() == scale


def test_a_method_that_compares_needs_a_teacher() -> None:
    with pytest.raises(MatchError, match="compares with a teacher"):
        distilled(teacher=None)


def test_a_method_that_sees_data_needs_data() -> None:
    with pytest.raises(MatchError, match="pass data="):
        distilled(objective=methods.scratch(), teacher=None)
