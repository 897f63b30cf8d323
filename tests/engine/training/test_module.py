"""What a training gives to Lightning."""

from __future__ import annotations

import copy

import pytest

from limbeck.core import methods
from limbeck.engine.settings.options import Training
from limbeck.engine.training.module import Companions, StudentModule
from limbeck.models import MLPClassifier
from tests.tiny import built


def test_settings_of_sgd_reach_the_optimiser() -> None:
    options = Training(optimizer="sgd", momentum=0.5, nesterov=True, weight_decay=5e-4, learning_rate=0.1)
    module = StudentModule(MLPClassifier(2, 2, []), methods.scratch(), Companions(None, None), options, seed=0)
    found = module.configure_optimizers()["optimizer"].defaults
    told = {"momentum": 0.5, "nesterov": True, "weight_decay": 5e-4, "lr": 0.1}
    assert found.items() >= told.items()


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_betas_are_those_of_the_optimiser(optimizer: str) -> None:
    options = Training(optimizer=optimizer, betas=(0.5, 0.98))
    module = StudentModule(MLPClassifier(2, 2, []), methods.scratch(), Companions(None, None), options, seed=0)
    assert module.configure_optimizers()["optimizer"].param_groups[0]["betas"] == (0.5, 0.98)


def test_a_copy_of_the_module_shares_the_teacher() -> None:
    """EMA deep-copies the whole module; the teacher may be large."""
    companions = Companions(built(), None)
    assert copy.deepcopy(companions).teacher is companions.teacher
