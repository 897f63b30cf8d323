"""Each setting of a training has the effect that it names, and impossible ones are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck import Batch, methods
from limbeck.engine.distill import distill
from limbeck.engine.settings.options import TrainerOptions
from limbeck.engine.training.fit import fit
from limbeck.errors import DataError, ModelError, RecipeError
from tests.engine.training.short_trainings import distilled, options
from tests.tiny import built, rows


class TestOptions:
    """Each setting has the effect that it names, measured on the first steps."""

    def moved(self, **changes: Any) -> float:
        student = built()
        start = student.body[0].weight.detach().clone()
        fit(student, methods.scratch(), options(**{"steps": 1, "weight_decay": 0.0} | changes), data=rows())
        return (student.body[0].weight - start).abs().max().item()

    def test_adam_moves_by_the_learning_rate(self) -> None:
        assert self.moved(learning_rate=0.02) == pytest.approx(0.02, rel=1e-3)

    def test_warm_up_raises_the_rate_from_nothing(self) -> None:
        """Adam's first steps move by about the rate each: half of it, then three times the whole."""
        assert self.moved(learning_rate=0.002, steps=4, warm_up=0.5) == pytest.approx(3.5 * 0.002, rel=0.05)
        assert self.moved(learning_rate=0.002, steps=4) == pytest.approx(4 * 0.002, rel=0.05)

    @pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
    def test_each_schedule_has_its_rates(self, schedule: str) -> None:
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

    def test_a_clipped_gradient_moves_less(self) -> None:
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
    def test_double_precision_trains_in_double(self, ema: float | None, tmp_path: Path) -> None:
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

    def test_a_teacher_of_double_precision_teaches_an_ordinary_student(self) -> None:
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
    def test_impossible_trainers_are_refused(self, trainer: TrainerOptions) -> None:
        with pytest.raises(RecipeError, match="trainer"):
            distilled(trainer=trainer)

    def test_rows_that_cannot_be_shared_are_refused(self) -> None:
        trainer = TrainerOptions(accelerator="cpu", devices=3, strategy="ddp")
        with pytest.raises(RecipeError, match="batch_size 8 cannot be shared equally by 3 devices"):
            distilled(trainer=trainer)

    def test_rows_that_are_no_batch_are_refused(self) -> None:
        with pytest.raises(DataError, match=r"data must be a limbeck\.Batch, such as .*, not Tensor"):
            distilled(objective=methods.scratch(), data=torch.rand(24, 1, 8, 8))

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (rows().y, r"data must be a limbeck\.Batch, such as .*, not Tensor"),
            (Batch(rows().y.numpy()), r"of tensors, not of ndarray; .* torch\.from_numpy"),  # type: ignore[arg-type]
        ],
        ids=["tensor", "array"],
    )
    @pytest.mark.parametrize("kept", [False, True])
    def test_a_distillation_refuses_them_too(self, data: Any, message: str, kept: bool, tmp_path: Path) -> None:
        """Before it describes them for a key, or prepares the teacher with them."""
        with pytest.raises(DataError, match=message):
            distill(built(), built(), data=data, directory=tmp_path if kept else None, progress=False)

    @pytest.mark.parametrize("objective", [methods.surrogate, "surrogate"])
    def test_what_is_no_objective_is_refused(self, objective: Any) -> None:
        with pytest.raises(RecipeError, match=r"such as methods\.surrogate\(\), not '?surrogate"):
            distilled(objective=objective)
        with pytest.raises(RecipeError, match=r"such as methods\.surrogate\(\), not '?surrogate"):
            distill(built(width=8), built(width=3), objective, steps=1)

    def test_a_student_without_weights_to_train_is_refused(self) -> None:
        with pytest.raises(ModelError, match="Tiny has no weights to train"):
            distilled(student=built(width=3).requires_grad_(False))
