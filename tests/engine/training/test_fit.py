"""Training one model: what it changes, what it leaves alone, and how it stops."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck import methods
from limbeck.core.loss import Batch, Loss
from limbeck.core.objective import Match, Objective
from limbeck.core.sites import Sites
from limbeck.core.trace import Kind
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.stages.progress import Progress
from limbeck.engine.training.checkpoints import (
    LAST,
    NEXT,
    PREVIOUS,
    Checkpoint,
    find_checkpoint,
    read_checkpoint,
    remove_checkpoints,
)
from limbeck.engine.training.fit import Fitted, fit
from limbeck.errors import CheckpointError, DataError, MatchError, ModelError, NonFiniteLossError, RecipeError
from tests.listening import Interrupting, Recorder
from tests.tiny import LearnedScale, NotANumber, Tiny, built, rows


class StoppedError(Exception):
    """Ends a training in the middle."""


def options(**changes: Any) -> Training:
    return Training(
        **{"steps": 12, "batch_size": 8, "learning_rate": 0.01, "log_every": 4, "checkpoint_every": 5} | changes
    )


def distilled(**arguments: Any) -> tuple[Tiny, Fitted]:
    """A student after surrogate distillation on samples alone."""
    student = arguments.pop("student", None) or built(seed=1, width=3)
    arguments = {"options": options(), "objective": methods.surrogate(), "teacher": built(width=8)} | arguments
    return student, fit(student, arguments.pop("objective"), arguments.pop("options"), **arguments)


class Stumbling(Tiny):
    """Its loss is not a number from the given call on."""

    def __init__(self, good: int = 7, gradient: bool = False) -> None:
        super().__init__()
        self.good, self.gradient, self.calls = good, gradient, 0

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        self.calls += 1
        terms = dict(super().loss(batch, progress=progress).terms)
        if self.calls > self.good:
            # The square root of 0 is finite, its gradient is not.
            bad = (
                (0.0 * terms["z1"]).clamp(min=0).sqrt() * 0.0
                if self.gradient
                else terms["z1"] / 0.0 - terms["z2"] / 0.0
            )
            terms["z1"] = terms["z1"] + bad
        return Loss.of(terms)


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

    def test_history(self) -> None:
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

    def test_bytes(self) -> None:
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
    def test_teacher(self) -> None:
        teacher = built(width=8, norm=True)
        before = weights_fingerprint(teacher)
        distilled(teacher=teacher)
        assert weights_fingerprint(teacher) == before
        assert all(parameter.grad is None for parameter in teacher.parameters())

    def test_inference_network_when_there_is_no_data(self) -> None:
        student = built(seed=1, width=3)
        before = {name: value.clone() for name, value in student.state_dict().items()}
        distilled(student=student, options=options(weight_decay=0.1))
        moved = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
        assert moved == {name for name in before if not name.startswith("encoder.")}

    def test_inference_network_is_trained_on_data(self) -> None:
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


class TestOptions:
    """Each setting has the effect that it names, measured on the first steps."""

    def moved(self, **changes: Any) -> float:
        student = built()
        start = student.body[0].weight.detach().clone()
        fit(student, methods.scratch(), options(**{"steps": 1, "weight_decay": 0.0} | changes), data=rows())
        return (student.body[0].weight - start).abs().max().item()

    def test_adam_moves_by_the_learning_rate(self) -> None:
        assert self.moved(learning_rate=0.02) == pytest.approx(0.02, rel=1e-3)

    def test_warm_up(self) -> None:
        """Adam's first steps move by about the rate each: half of it, then three times the whole."""
        assert self.moved(learning_rate=0.002, steps=4, warm_up=0.5) == pytest.approx(3.5 * 0.002, rel=0.05)
        assert self.moved(learning_rate=0.002, steps=4) == pytest.approx(4 * 0.002, rel=0.05)

    @pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
    def test_schedule(self, schedule: str) -> None:
        settings = options(steps=8, warm_up=0.25, schedule=schedule, log_every=1)
        _, found = distilled(options=settings)
        rates = [row["learning_rate"] for row in found.history.rows]
        assert rates == pytest.approx([settings.learning_rate * settings.rate(step) for step in range(8)])

    def test_sgd_is_gradient_descent(self) -> None:
        student, by_hand = built(), built()
        settings = options(steps=1, optimizer="sgd", learning_rate=1e-3, weight_decay=0.1, batch_size=24)
        fit(student, methods.scratch(), settings, data=rows())
        by_hand.loss(rows()).backward()
        weight = by_hand.body[0].weight
        expected = weight - 1e-3 * (weight.grad + 0.1 * weight)
        torch.testing.assert_close(student.body[0].weight, expected, rtol=1e-5, atol=1e-6)

    def test_adamw_decays_apart_from_the_gradient(self) -> None:
        decayed, plain = built(), built()
        for student, decay in ((decayed, 0.5), (plain, 0.0)):
            settings = options(steps=1, optimizer="adamw", weight_decay=decay)
            fit(student, methods.scratch(), settings, data=rows())
        start = built().body[0].weight
        torch.testing.assert_close(plain.body[0].weight - decayed.body[0].weight, 0.01 * 0.5 * start)

    def test_gradient_clip(self) -> None:
        settings = {"optimizer": "sgd", "learning_rate": 1.0, "batch_size": 24}
        free = self.moved(**settings)
        clipped = self.moved(**settings, gradient_clip=1e-3)
        assert clipped <= 1e-3
        assert free > 1.0

    def test_ema_is_the_average_of_the_steps(self) -> None:
        weights = []
        for steps in range(1, 5):
            student = built()
            fit(student, methods.scratch(), options(steps=steps), data=rows())
            weights.append(student.body[0].weight.detach())
        expected = weights[0]
        for weight in weights[1:]:
            expected = 0.8 * expected + 0.2 * weight
        student = built()
        fit(student, methods.scratch(), options(steps=4, ema=0.8), data=rows())
        torch.testing.assert_close(student.body[0].weight, expected)

    @pytest.mark.parametrize("ema", [None, 0.9])
    def test_double_precision(self, ema: float | None, tmp_path: Path) -> None:
        trainer = TrainerOptions(precision="64-true")
        teacher = built(width=8, norm=True)
        student = built(seed=1, width=3, norm=True)
        fit(student, methods.joint(0.5), options(ema=ema), teacher=teacher, data=rows(), trainer=trainer)
        assert {parameter.dtype for parameter in student.parameters()} == {torch.float64}
        assert teacher.body[0].weight.dtype == torch.float32
        single = built(seed=1, width=3, norm=True)
        fit(single, methods.scratch(), options(ema=ema), data=rows())
        reference = built(seed=1, width=3, norm=True)
        fit(reference, methods.scratch(), options(ema=ema), data=rows(), trainer=trainer)
        torch.testing.assert_close(single.body[0].weight.double(), reference.body[0].weight, rtol=1e-3, atol=1e-4)
        assert not torch.equal(single.body[0].weight.double(), reference.body[0].weight)

    def test_teacher_of_double_precision_with_an_ordinary_student(self) -> None:
        student, found = distilled(teacher=built(width=8).double())
        assert student.body[0].weight.dtype == torch.float32
        assert len(found.history.rows) == 3

    @pytest.mark.parametrize(
        "trainer",
        [
            TrainerOptions(strategy="dpp"),
            TrainerOptions(accelerator="abacus"),
            TrainerOptions(precision="33-true"),
            TrainerOptions(devices=0),
            TrainerOptions(devices="many"),
            TrainerOptions(accelerator="cpu", devices=2, strategy="ddp_spawn"),
            TrainerOptions(accelerator="cpu", devices=2, strategy="ddp_fork"),
        ],
        ids=str,
    )
    def test_impossible_trainers(self, trainer: TrainerOptions) -> None:
        with pytest.raises(RecipeError, match="trainer"):
            distilled(trainer=trainer)

    def test_rows_that_cannot_be_shared(self) -> None:
        trainer = TrainerOptions(accelerator="cpu", devices=3, strategy="ddp")
        with pytest.raises(RecipeError, match="batch_size 8 cannot be shared equally by 3 devices"):
            distilled(trainer=trainer)

    def test_rows_that_are_no_batch(self) -> None:
        with pytest.raises(DataError, match=r"data must be a limbeck\.Batch, such as .*, not Tensor"):
            distilled(objective=methods.scratch(), data=torch.rand(24, 1, 8, 8))

    def test_nothing_to_train(self) -> None:
        with pytest.raises(ModelError, match="Tiny has no weights to train"):
            distilled(student=built(width=3).requires_grad_(False))


class TestCheckpoints:
    def test_content(self, tmp_path: Path) -> None:
        distilled(directory=str(tmp_path), teacher=built(width=300), options=options(steps=8, checkpoint_every=3))
        found = read_checkpoint(tmp_path / LAST)
        assert found["global_step"] == 6
        assert read_checkpoint(tmp_path / PREVIOUS)["global_step"] == 3
        assert {name.split(".")[0] for name in found["state_dict"]} == {"student"}
        student_size = sum(parameter.numel() * parameter.element_size() for parameter in built(width=3).parameters())
        teacher_size = sum(parameter.numel() * parameter.element_size() for parameter in built(width=300).parameters())
        assert (tmp_path / LAST).stat().st_size < 3 * student_size + 20_000 < teacher_size

    def test_an_unfinished_replacement_is_the_newest(self, tmp_path: Path) -> None:
        """Killed between two renames: the new checkpoint still has its temporary name."""
        distilled(directory=tmp_path, options=options(steps=8, checkpoint_every=3))
        assert find_checkpoint(tmp_path, Progress()) == Checkpoint(tmp_path / LAST, 6)
        (tmp_path / LAST).rename(tmp_path / NEXT)
        assert find_checkpoint(tmp_path, Progress()) == Checkpoint(tmp_path / NEXT, 6)
        remove_checkpoints(tmp_path)
        assert find_checkpoint(tmp_path, Progress()) is None

    def test_none_for_the_last_step(self, tmp_path: Path) -> None:
        distilled(directory=tmp_path, options=options(steps=3, checkpoint_every=3))
        assert list(tmp_path.iterdir()) == []

    def test_truncated_is_passed_over(self, tmp_path: Path) -> None:
        expected, _ = distilled()
        self.interrupted(tmp_path)
        whole = (tmp_path / LAST).read_bytes()
        (tmp_path / LAST).write_bytes(whole[: len(whole) // 2])
        recorder = Recorder()
        student, found = distilled(directory=tmp_path, options=options(checkpoint_every=2), progress=recorder)
        assert found.resumed_at == 4
        assert weights_fingerprint(student) == weights_fingerprint(expected)
        assert len(recorder.messages) == 1
        assert "last.ckpt is damaged" in recorder.messages[0]
        assert "previous.ckpt instead" in recorder.messages[0]

    @pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nothing", b"\x80\x04 a pickle?"])
    def test_both_damaged(self, tmp_path: Path, damage: bytes) -> None:
        self.interrupted(tmp_path)
        for name in (LAST, PREVIOUS):
            (tmp_path / name).write_bytes(damage)
        with pytest.raises(CheckpointError) as caught:
            distilled(directory=tmp_path)
        text = str(caught.value)
        assert LAST in text
        assert PREVIOUS in text
        assert f"Delete {tmp_path}" in text
        assert "\n" not in text

    def test_code_in_a_checkpoint_is_not_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple:
                return (Path.touch, (tmp_path / "ran",))

        torch.save({"global_step": Evil()}, tmp_path / LAST)
        with pytest.raises(CheckpointError):
            find_checkpoint(tmp_path, Progress())
        assert not (tmp_path / "ran").exists()

    def interrupted(self, directory: Path) -> None:
        """Checkpoints of steps 6 and 4, as a process leaves them that dies at step 7."""

        settings = options(checkpoint_every=2, log_every=1)
        with pytest.raises(InterruptedError):
            distilled(directory=directory, options=settings, progress=Interrupting(7))
        assert read_checkpoint(directory / LAST)["global_step"] == 6

    def test_half_filled_row_of_the_history_is_kept(self, tmp_path: Path) -> None:
        whole = distilled(options=options(log_every=5))[1].history

        student = built(seed=1, width=3)
        calls = 0
        plain = student.generate

        def stop(sites: Sites, x: Tensor | None = None) -> None:
            nonlocal calls
            calls += 1
            if calls == 8:
                raise StoppedError
            plain(sites, x)

        student.generate = stop  # type: ignore[method-assign]
        with pytest.raises(StoppedError):
            distilled(student=student, directory=tmp_path, options=options(log_every=5, checkpoint_every=7))
        _, found = distilled(directory=tmp_path, options=options(log_every=5, checkpoint_every=7))
        assert found.resumed_at == 7
        assert [row["step"] for row in found.history.rows] == [5, 10, 12]
        for row, expected in zip(found.history.rows, whole.rows):
            assert row["total"] == pytest.approx(expected["total"], rel=1e-6)


class TestNonFinite:
    def test_names_step_and_site(self, tmp_path: Path) -> None:
        with pytest.raises(NonFiniteLossError) as caught:
            fit(Stumbling(good=7), methods.scratch(), options(), data=rows(), directory=tmp_path)
        text = str(caught.value)
        assert "at step 7:" in text
        assert "z1 = nan" in text
        assert "learning rate" in text
        assert "\n" not in text
        assert read_checkpoint(tmp_path / LAST)["global_step"] == 5

    def test_names_the_teachers_site(self) -> None:
        with pytest.raises(
            NonFiniteLossError, match=r"The teacher's site 'y' has 512 of 512 non-finite values in its loc"
        ):
            distilled(teacher=built(NotANumber, width=8))

    def test_names_the_weight(self) -> None:
        student = built(seed=1, width=3)
        with torch.no_grad():
            student.prior.bias[2] = float("nan")
        with pytest.raises(NonFiniteLossError, match=r"weight student\.prior\.bias has 1 non-finite values of 4"):
            distilled(student=student)

    def test_impossible_parameters_of_a_distribution(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # As torch has it; libraries that other tests import turn it off for all.
        monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)
        student = built(seed=1, width=3)
        with torch.no_grad():
            student.prior.weight.fill_(3e38)
        with pytest.raises(NonFiniteLossError, match=r"the \w+ of a Normal became non-finite .* at step 0") as caught:
            distilled(student=student)
        assert "\n" not in str(caught.value)

    def test_finite_loss_with_a_broken_gradient_is_not_kept(self, tmp_path: Path) -> None:
        """The loss of the step is still finite, so only the weights tell; they must not be saved."""
        with pytest.raises(NonFiniteLossError, match="weights became non-finite at step 10"):
            fit(Stumbling(good=9, gradient=True), methods.scratch(), options(), data=rows(), directory=tmp_path)
        kept = read_checkpoint(tmp_path / LAST)
        assert kept["global_step"] == 5
        assert all(torch.isfinite(value).all() for value in kept["state_dict"].values())

    def test_broken_in_the_last_step(self) -> None:
        with pytest.raises(NonFiniteLossError, match="weights became non-finite at step 4"):
            fit(Stumbling(good=3, gradient=True), methods.scratch(), options(steps=4), data=rows())

    def test_goes_on_from_the_good_checkpoint(self, tmp_path: Path) -> None:
        with pytest.raises(NonFiniteLossError):
            fit(built(Stumbling, good=7), methods.scratch(), options(), data=rows(), directory=tmp_path)
        mended = built(Stumbling, good=100)
        assert fit(mended, methods.scratch(), options(), data=rows(), directory=tmp_path).resumed_at == 5
        expected = built(Stumbling, good=100)
        fit(expected, methods.scratch(), options(), data=rows())
        assert weights_fingerprint(mended) == weights_fingerprint(expected)


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


def test_teacher_is_needed() -> None:
    with pytest.raises(MatchError, match="compares with a teacher"):
        distilled(teacher=None)


def test_data_is_needed() -> None:
    with pytest.raises(MatchError, match="pass data="):
        distilled(objective=methods.scratch(), teacher=None)


def test_a_copy_of_the_module_shares_the_teacher() -> None:
    """EMA deep-copies the whole module; the teacher may be large."""
    from limbeck.engine.training.module import Companions

    companions = Companions(built(), None)
    assert copy.deepcopy(companions).teacher is companions.teacher
