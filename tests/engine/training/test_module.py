"""What a training gives to Lightning."""

from __future__ import annotations

from limbeck.core import methods
from limbeck.engine.settings.options import Training
from limbeck.engine.training.module import Companions, StudentModule
from limbeck.models import MLPClassifier


def test_settings_of_sgd_reach_the_optimiser() -> None:
    options = Training(optimizer="sgd", momentum=0.5, nesterov=True, weight_decay=5e-4, learning_rate=0.1)
    module = StudentModule(MLPClassifier(2, 2, []), methods.scratch(), Companions(None, None), options, seed=0)
    found = module.configure_optimizers()["optimizer"].defaults
    told = {"momentum": 0.5, "nesterov": True, "weight_decay": 5e-4, "lr": 0.1}
    assert found.items() >= told.items()
