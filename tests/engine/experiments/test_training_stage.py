"""Runs whose models are validated: what is told of where they stopped, and when they are trained anew."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from limbeck import methods
from limbeck.data import DataSource, TableDataset, TableSplit
from limbeck.engine.evaluations.evaluation import Subject
from limbeck.engine.experiments.experiment import Experiment
from limbeck.engine.experiments.recipe import Baseline, Recipe
from limbeck.engine.experiments.stage_keys import student_key
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.stages.progress import Progress
from limbeck.errors import RecipeError
from limbeck.metrics import ModelResult
from tests.engine.training.validated import Line, Loaded, at, options
from tests.tiny import Quick, QuickJudge, Spots, Tiny


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"data": None, "teacher_training": None, "objective": methods.scratch()}, "'surrogate' trains on data"),
        ({"student": Loaded()}, "'surrogate' is to stop by its own loss, but Loaded"),
        ({"pairs": Pairs(8)}, "'surrogate' is to stop by recorded pairs .* none are held out; give pairs.held_out"),
        ({"student": Tiny()}, "needs its inference network"),
        ({"teacher": Loaded(), "teacher_training": options()}, "the teacher is to stop by its own loss, but"),
    ],
)
def test_what_cannot_be_validated_is_said_before_anything_runs(changes: dict[str, Any], match: str) -> None:
    parts = {"teacher": Line(), "student": Line(), "objective": methods.surrogate(), "data": Spots()}
    with pytest.raises(RecipeError, match=match):
        Recipe("toy", evaluation=Quick(), training=options(), **parts | changes)


class Shifted(DataSource):
    """Rows at 10, validated at 0.5."""

    def load(self) -> TableDataset:
        train, held_out = TableSplit(at(10.0).y), TableSplit(at(0.5).y)
        return TableDataset("shifted", train, held_out, held_out, columns=("y",))


class AtZero(Quick):
    """The loss at 0.5."""

    def judge(self, *arguments: Any) -> AtZeroJudge:
        return AtZeroJudge(1, 0)


class AtZeroJudge(QuickJudge):
    def measure(self, subject: Subject) -> dict[str, float]:
        return {"brightness": subject.model.loss(at(0.5)).total.item()}


def recipe(**changes: Any) -> Recipe:
    training = options(patience=2, **changes)
    return Recipe(
        "shifted", Line(), Line(), methods.scratch(), AtZero(), data=Shifted(), teacher_training=training,
        training=training, method="plain", target="values",
        baselines={"surrogate": Baseline(methods.surrogate(), learning_rate=0.05)},
    )  # fmt: skip


def run(recipe: Recipe, directory: Path) -> list[ModelResult]:
    experiment = Experiment(
        recipe, resolved="", name="shifted", directory=directory / "run", cache=directory, command="",
        progress=Progress(),
    )  # fmt: skip
    return experiment.run().results


class TestRuns:
    def test_results_say_where_it_stopped(self, tmp_path: Path) -> None:
        teacher, plain, surrogate = run(recipe(), tmp_path)
        for result in (teacher, plain):
            assert result.values["best_step"] in (4, 6)
            assert result.values["steps_taken"] == result.values["best_step"] + 4
            assert result.values["brightness"] < 0.5 * 0.2**2
        # The teacher that it copies is near 0.5: it comes no nearer in half as large steps.
        assert surrogate.values["best_step"] > plain.values["best_step"]
        again = run(recipe(), tmp_path)
        assert [result.values for result in again] == [result.values for result in (teacher, plain, surrogate)]

    def test_without_validation_nothing_is_said(self, tmp_path: Path) -> None:
        plain = dataclasses.replace(options(), validate_every=None)
        results = run(dataclasses.replace(recipe(), training=plain, teacher_training=plain), tmp_path)
        assert not any("best_step" in result.values for result in results)

    def test_a_data_free_student_depends_on_rows_only_if_they_choose_its_weights(self) -> None:
        """It depends on the rows only if they choose among its weights."""

        def key(rows_key: str, **changes: Any) -> str:
            toy = Recipe("toy", Line(), Line(), methods.surrogate(), Quick(), data=Spots(), training=options(**changes))
            return student_key(toy, "surrogate", 0, "teacher", rows_key)

        assert key("a", validate_every=None) == key("b", validate_every=None)
        assert key("a") != key("b")
        assert len({key("a"), key("a", validate_every=3), key("a", patience=1), key("a", validate_every=None)}) == 4
        assert key("a", log_every=7, checkpoint_every=11) == key("a")
