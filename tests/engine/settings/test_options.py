"""Settings of a training: which are refused, which count, and the learning rate that follows from them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data import Augmentation
from limbeck.engine.settings.options import Training
from limbeck.errors import RecipeError


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("checkpoint_every", 0),
        ("log_every", -1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("warm_up", 1.0),
        ("warm_up", -0.1),
        ("ema", 1.0),
        ("ema", 0.0),
        ("gradient_clip", 0.0),
        ("weight_decay", -1.0),
        ("optimizer", "adamm"),
        ("schedule", "cosin"),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("milestones", ()),
        ("milestones", (0.0, 0.5)),
        ("milestones", (0.5, 1.0)),
        ("milestones", (0.5, 0.5)),
        ("milestones", (0.6, 0.3)),
        ("decay", 0.0),
        ("decay", 1.5),
        ("steps", 2.5),
        ("steps", None),
        ("validate_every", "many"),
        ("learning_rate", None),
        ("gradient_clip", "1"),
        ("augmentation", {}),
    ],
)
def test_impossible_training(setting: str, value: object) -> None:
    with pytest.raises(RecipeError, match=setting) as caught:
        Training(**{setting: value})
    assert str(list(value) if isinstance(value, tuple) else value) in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"milestones": (0.5,)}, "are for schedule: steps, but it is constant"),
        ({"decay": 0.1, "schedule": "cosine"}, "are for schedule: steps, but it is cosine"),
        ({"momentum": 0.5}, "for optimizer: sgd, but it is adam"),
        ({"nesterov": True, "optimizer": "adamw"}, "for optimizer: sgd, but it is adamw"),
        ({"nesterov": True, "optimizer": "sgd", "momentum": 0.0}, "momentum, which is 0"),
    ],
)
def test_settings_that_would_do_nothing(settings: dict, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Training(**settings)


EARLIEST = {
    "steps", "batch_size", "learning_rate", "weight_decay", "optimizer", "schedule", "warm_up", "gradient_clip", "ema",
}  # fmt: skip


class TestWhatWeightsDependOn:
    def test_later_settings_are_told_only_where_they_are_used(self) -> None:
        """So results of earlier versions keep their fingerprints."""
        assert Training().essential().keys() == EARLIEST
        assert Training(optimizer="sgd", schedule="cosine").essential().keys() == EARLIEST

    @pytest.mark.parametrize(
        "settings",
        [
            {"optimizer": "sgd", "momentum": 0.5},
            {"optimizer": "sgd", "nesterov": True},
            {"schedule": "steps", "milestones": (0.5,)},
            {"schedule": "steps", "decay": 0.5},
            {"augmentation": Augmentation()},
            {"augmentation": Augmentation(padding=2)},
            {"augmentation": Augmentation(views=3)},
            {"compile": True},
        ],
    )
    def test_each_of_them_is_told_apart(self, settings: dict) -> None:
        base = Training(**{name: settings[name] for name in ("optimizer", "schedule") if name in settings})
        told, before = Training(**settings).essential(), base.essential()
        assert json.loads(json.dumps(told)) != json.loads(json.dumps(before))
        assert Training(**settings).essential() == told

    def test_every_field_of_an_augmentation_counts(self) -> None:
        changes = ({}, {"padding": 2}, {"flip": False}, {"fill": "reflect"}, {"views": 2})
        told = [json.dumps(Training(augmentation=Augmentation(**change)).essential()) for change in changes]
        assert len(set(told)) == len(changes)


class TestRate:
    def test_constant(self) -> None:
        assert {Training(steps=10).rate(step) for step in range(10)} == {1.0}

    def test_linear_falls_in_equal_steps_to_nothing(self) -> None:
        options = Training(steps=10, schedule="linear")
        assert [options.rate(step) for step in range(11)] == pytest.approx([1 - step / 10 for step in range(11)])

    def test_cosine(self) -> None:
        options = Training(steps=10, schedule="cosine")
        assert [options.rate(step) for step in (0, 5, 10, 11)] == pytest.approx([1.0, 0.5, 0.0, 0.0])

    def test_steps_of_the_paper(self) -> None:
        """[V] App. A.3: 200 epochs, times 0.2 at epochs 60, 120 and 160; here with 7 updates an epoch."""
        options = Training(steps=200 * 7, schedule="steps")
        rates = [options.rate(step) for step in range(options.steps)]
        assert [rates.index(rate) // 7 for rate in sorted(set(rates), reverse=True)] == [0, 60, 120, 160]
        assert sorted(set(rates)) == pytest.approx([0.008, 0.04, 0.2, 1.0])

    def test_steps_count_from_the_start_of_the_warm_up(self) -> None:
        options = Training(steps=10, schedule="steps", milestones=(0.5,), decay=0.1, warm_up=0.2)
        assert [options.rate(step) for step in range(10)] == pytest.approx([0.5, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1])

    @given(st.integers(1, 300), st.floats(0, 0.99), st.sampled_from(["constant", "linear", "cosine", "steps"]))
    @settings(max_examples=60, deadline=None)
    def test_rises_then_falls_within_bounds(self, steps: int, warm_up: float, schedule: str) -> None:
        options = Training(steps=steps, warm_up=warm_up, schedule=schedule)
        rates = [options.rate(step) for step in range(steps)]
        assert all(0 < rate <= 1 for rate in rates)  # no step is wasted
        peak = rates.index(max(rates))
        assert rates[: peak + 1] == sorted(rates[: peak + 1])
        assert rates[peak:] == sorted(rates[peak:], reverse=True)
        assert max(rates) == 1.0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"validate_every": 0}, "validate_every must be at least 1, not 0"),
        ({"patience": 0}, "patience must be at least 1, not 0"),
        ({"validate_every": None, "patience": 3}, "patience counts validations; give validate_every"),
        ({"validate_every": None, "validate_on": "pairs"}, "say how often with validate_every"),
        ({"validate_on": "samples"}, "validate_on must be one of rows, pairs"),
        ({"optimizer": "sgd", "betas": (0.5, 0.9)}, r"betas .* adam or adamw, but it is sgd.* \[0.9, 0.999\]"),
        ({"betas": (0.9, 1.0)}, r"betas are two decays in \[0, 1\), not \(0.9, 1.0\)"),
    ],
)
def test_refused_settings_of_validation(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        Training(**{"validate_every": 2} | changes)


def test_settings_left_alone_are_no_part_of_an_identity() -> None:
    assert not {"validate_on", "betas"} & set(Training(validate_every=2).essential())
    assert Training(betas=(0.9, 0.98)).essential()["betas"] == (0.9, 0.98)
    assert Training(validate_every=2, validate_on="pairs").essential()["validate_on"] == "pairs"


def test_a_dry_run_validates() -> None:
    assert Training(validate_every=1000, patience=2).shortened(4, 16).validate_every == 2
    assert Training().shortened(4, 16).validate_every is None
