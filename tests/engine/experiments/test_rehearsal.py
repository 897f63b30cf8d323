"""What is wrong with a model and its data is found before anything is trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from limbeck.core.divergence import kl
from limbeck.core.methods import transfer
from limbeck.core.objective import Match, Objective
from limbeck.core.schedule import Ramp
from limbeck.data import Digits
from limbeck.engine.evaluations.images.continual_evaluation import ContinualEvaluation
from limbeck.engine.experiments.rehearsal import check_method, check_runs
from limbeck.errors import RecipeError
from limbeck.models import NetworkClassifier
from tests.engine.experiments.test_tasks import recipe, run


class Raising(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("sizes differ"), "the teacher cannot run on the images of digits, 1x8x8 each: sizes differ"),
        (AssertionError("Wrong image width"), "AssertionError: Wrong image width"),
        (ValueError("of 224\npixels"), "ValueError: of 224 pixels"),
        (KeyError("pixel_values"), "KeyError: 'pixel_values'"),
    ],
)
def test_a_network_that_cannot_run(error: Exception, told: str) -> None:
    """Its author may raise anything, and asserts the size of images as often as torch refuses it."""
    torch.manual_seed(0)
    with pytest.raises(RecipeError) as found:
        check_runs(NetworkClassifier.wrap(Raising(error)), Digits().load(), "images", "the teacher")
    assert told in str(found.value)


def test_a_method_without_a_weight() -> None:
    """Its training would end in an error of torch at the first step; one that begins later is let through."""
    models = [NetworkClassifier.wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))) for _ in range(2)]
    rest = (*models, Digits(limit=40).load(), "images", "--match")
    with pytest.raises(RecipeError, match="--match: the student has nothing to learn, since all weights are 0"):
        check_method(transfer(["y:kd@0"], 0.0), *rest)
    check_method(transfer(["y:kd@0"], 0.1), *rest)
    check_method(Objective([Match("y", weight=Ramp(0.0, 1.0, 0.5))]), *rest)


def test_a_method_of_tasks_that_cannot_train_is_told_before_anything_is_trained(tmp_path) -> None:
    with pytest.raises(RecipeError, match=r"'ours': .*nowhere"):
        run(tmp_path, recipe(objective=Objective([Match("nowhere", divergence=kl)])))
    assert not (tmp_path / "teacher").exists()


def test_data_that_cannot_be_measured_are_told_before_anything_is_trained(tmp_path) -> None:
    with pytest.raises(RecipeError, match=r"use limbeck\.data\.Domains"):
        run(tmp_path, recipe(evaluation=ContinualEvaluation()))
    assert not (tmp_path / "teacher").exists()
