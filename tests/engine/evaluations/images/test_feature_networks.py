"""Feature distances without a network of their own get a classifier of the data, not the one that measures."""

from pathlib import Path

import pytest
import torch
from torch.distributions import Normal

from limbeck import methods
from limbeck.core.divergence import FeatureDistance
from limbeck.data import Digits
from limbeck.engine.evaluations.images import feature_networks
from limbeck.engine.evaluations.images.feature_networks import equip, wants_network
from limbeck.engine.stages.progress import Progress
from limbeck.errors import RecipeError
from limbeck.metrics import ClassifierFeatures


@pytest.fixture
def numbers(monkeypatch) -> list[int]:
    asked = []

    def small(dataset, cache, progress, number=1):
        asked.append(number)
        return ClassifierFeatures(1, 8, 10, f"{dataset.name}-cnn-{number}", width=4, num_features=6)

    monkeypatch.setattr(feature_networks, "trained_extractor", small)
    return asked


def test_it_is_neither_of_the_extractors(numbers):
    objective = methods.few_step(feature_weight=0.1)
    assert wants_network(objective)
    equip(objective, Digits().load(), Path(), Progress())
    assert not wants_network(objective)
    assert numbers == [3]
    (distance,) = (part for part in objective.modules() if isinstance(part, FeatureDistance))
    assert distance.layers == ("blocks.0", "neck")
    a, b = (Normal(torch.rand(2, 1, 8, 8), 0.5) for _ in range(2))
    assert distance(a, b).shape == (2,)
    assert distance(a, a).abs().max() == 0


def test_a_network_of_ones_own_is_kept(numbers):
    own = ClassifierFeatures(1, 8, 10, "own", width=4)
    objective = methods.few_step(feature_weight=0.1, features=FeatureDistance(own))
    equip(objective, None, Path(), Progress())
    assert numbers == []


def test_parts_of_a_sum_are_found():
    parts = {"pairs": methods.few_step(feature_weight=0.1), "other": methods.consistency()}
    assert wants_network(methods.combined(parts))
    assert not wants_network(methods.sharpened())


def test_without_data_the_message_says_so():
    with pytest.raises(RecipeError, match="no data"):
        equip(methods.few_step(feature_weight=0.1), None, Path(), Progress())
