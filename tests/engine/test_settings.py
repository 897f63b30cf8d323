"""The small parts of the engine: options, seeds, rows of a step, history, environment."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.core import methods
from limbeck.core.loss import Batch
from limbeck.data import Augmentation
from limbeck.engine.batches import Batches
from limbeck.engine.environment import describe_environment, is_main_process
from limbeck.engine.history import History
from limbeck.engine.module import Companions, StudentModule
from limbeck.engine.options import Training
from limbeck.engine.seeding import derive_seed, seeded
from limbeck.errors import DataError, RecipeError
from limbeck.models import MLPClassifier


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


def test_settings_of_sgd_reach_the_optimiser() -> None:
    options = Training(optimizer="sgd", momentum=0.5, nesterov=True, weight_decay=5e-4, learning_rate=0.1)
    module = StudentModule(MLPClassifier(2, 2, []), methods.scratch(), Companions(None, None), options, seed=0)
    found = module.configure_optimizers()["optimizer"].defaults
    told = {"momentum": 0.5, "nesterov": True, "weight_decay": 5e-4, "lr": 0.1}
    assert found.items() >= told.items()


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


class TestSeeds:
    def test_every_purpose_has_its_own(self) -> None:
        seeds = [derive_seed(seed, purpose, step) for seed in range(3) for purpose in ("a", "b") for step in range(9)]
        assert len(set(seeds)) == len(seeds)
        assert all(0 <= seed < 2**63 for seed in seeds)

    def test_never_changes(self) -> None:
        assert derive_seed(0, "student", "surrogate", 12) == 8827488701447316852

    def test_seeded_leaves_the_callers_numbers_alone(self) -> None:
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        with seeded(7):
            first = torch.rand(1)
        assert torch.equal(torch.rand(2), expected)
        with seeded(7):
            assert torch.equal(torch.rand(1), first)


def numbered(count: int) -> Batch:
    return Batch(y=torch.arange(count), x=10.0 * torch.arange(count))


class TestBatches:
    @given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
    @settings(max_examples=60, deadline=None)
    def test_every_epoch_is_a_permutation(self, count: int, batch_size: int, seed: int) -> None:
        batches = Batches(numbered(count), batch_size, seed)
        drawn = [row for step in range(4 * count // batch_size + 1) for row in batches(step).y.tolist()]
        for epoch in range(len(drawn) // count):
            assert sorted(drawn[epoch * count : (epoch + 1) * count]) == list(range(count))

    def test_epochs_and_seeds_differ(self) -> None:
        batches = Batches(numbered(20), 20, 0)
        orders = [batches(0).y.tolist(), batches(1).y.tolist(), Batches(numbered(20), 20, 1)(0).y.tolist()]
        assert len({tuple(order) for order in orders}) == 3

    def test_a_step_does_not_depend_on_those_before(self) -> None:
        batches, other = Batches(numbered(10), 4, 0), Batches(numbered(10), 4, 0)
        expected = [batches(step).y.tolist() for step in range(9)]
        steps = list(range(9))
        random.Random(1).shuffle(steps)
        assert all(other(step).y.tolist() == expected[step] for step in steps)

    def test_condition_stays_with_its_row(self) -> None:
        batch = Batches(numbered(10), 7, 0)(2)
        assert torch.equal(batch.x, 10.0 * batch.y)

    @pytest.mark.parametrize("world", [1, 2, 4])
    def test_processes_share_the_rows_of_one(self, world: int) -> None:
        batches = Batches(numbered(10), 8, 0)
        for step in range(7):
            parts = [batches(step, rank, world).y.tolist() for rank in range(world)]
            assert {len(part) for part in parts} == {8 // world}
            assert [row for part in parts for row in part] == batches(step).y.tolist()

    def test_bytes_become_floats(self) -> None:
        batch = Batches(Batch(torch.tensor([[0], [51], [255]], dtype=torch.uint8)), 3, 0)(0)
        assert batch.y.dtype == torch.float32
        assert sorted(batch.y.flatten().tolist()) == pytest.approx([0.0, 0.2, 1.0])
        assert batch.x is None

    def test_labels_stay_labels(self) -> None:
        assert Batches(numbered(4), 2, 0)(0).y.dtype == torch.int64

    def test_without_rows(self) -> None:
        with pytest.raises(DataError, match="empty"):
            Batches(numbered(0), 2, 0)


class TestHistory:
    ROWS = (
        {"step": 10, "total": 3.5, "y": 3.0, "z1": 0.5, "learning_rate": 1e-3, "seconds": 1.25},
        {"step": 20, "total": 3.0, "y": 3.0, "late": 0.0, "learning_rate": 5e-4, "seconds": 2.5},
    )

    def test_round_trip(self, tmp_path: Path) -> None:
        history = History([dict(row) for row in self.ROWS])
        history.write(tmp_path / "history.csv")
        found = History.read(tmp_path / "history.csv")
        assert [dict(row) for row in found.rows] == [dict(row) for row in self.ROWS]
        assert found.seconds == 2.5

    def test_layout(self, tmp_path: Path) -> None:
        History([dict(row) for row in self.ROWS]).write(tmp_path / "history.csv")
        lines = (tmp_path / "history.csv").read_text().splitlines()
        assert lines[0] == "step,total,y,z1,late,learning_rate,seconds"
        assert lines[2] == "20,3,3,,0,0.0005,2.5"

    def test_late_steps_keep_all_their_digits(self, tmp_path: Path) -> None:
        History([{"step": 12345678, "total": 1.0}]).write(tmp_path / "history.csv")
        assert History.read(tmp_path / "history.csv").rows[0]["step"] == 12345678

    def test_of_nothing(self, tmp_path: Path) -> None:
        History().write(tmp_path / "history.csv")
        assert History.read(tmp_path / "history.csv").rows == []
        assert History().seconds == 0.0


def test_environment_names_what_the_numbers_depend_on() -> None:
    found = describe_environment()
    assert found["torch"].startswith(torch.__version__.split("+")[0])
    assert {"Python", "system", "limbeck", "lightning", "processor", "accelerator"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_only_the_first_process_writes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_main_process()
    monkeypatch.setenv(name, "0")
    assert is_main_process()
    monkeypatch.setenv(name, "1")
    assert not is_main_process()
