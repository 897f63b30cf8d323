"""Stopping by validation: which weights are kept, when a training ends, and that an interruption changes nothing."""

from __future__ import annotations

import dataclasses
import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from limbeck import methods
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites
from limbeck.data import DataSource, TableDataset, TableSplit
from limbeck.engine.distill import distill
from limbeck.engine.evaluations.evaluation import Subject
from limbeck.engine.experiments.experiment import Experiment
from limbeck.engine.experiments.recipe import Baseline, Recipe
from limbeck.engine.experiments.stage_keys import student_key
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.pairs.record import record
from limbeck.engine.pairs.recorded_teacher import RecordedTeacher
from limbeck.engine.settings.options import Training
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.terminal_progress import TerminalProgress
from limbeck.engine.training.checkpoints import LAST, read_checkpoint
from limbeck.engine.training.fit import Fitted, fit
from limbeck.engine.training.module import Companions, StudentModule
from limbeck.errors import DataError, NonFiniteLossError, RecipeError
from limbeck.metrics import ModelResult
from tests.listening import Interrupting, Recorder
from tests.sampler import Sampler
from tests.tiny import Quick, QuickJudge, Spots, Tiny, built, counted, die, in_child, rows


class Line(DGM):
    """A point with unit noise; its loss is half the squared distance to the rows' mean, plus noise if asked."""

    def __init__(self, noise: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        self.noise = noise
        self.point = nn.Parameter(torch.zeros(1))
        self.norm = nn.BatchNorm1d(1, affine=False) if norm else nn.Identity()
        self.modes: list[bool] = []

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        sites.target("y", Normal(self.point.expand(sites.batch_size, 1), 1.0))

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        self.modes.append(self.training)
        self.norm(batch.y)
        shaken = batch.y + self.noise * torch.randn_like(batch.y)
        return Loss.of({"y": 0.5 * (shaken - self.point).square().mean()})


class Broken(Line):
    """Its loss on rows below 0 is not a number."""

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        return Loss.of({"y": (super().loss(batch).total * batch.y.mean().sqrt())})


class Gaussian(DGM):
    """Mean and deviation of each column."""

    def __init__(self, columns: int = 8) -> None:
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.zeros(columns)), nn.Parameter(torch.zeros(columns))

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        loc = self.loc.expand(sites.batch_size, -1)
        sites.target("y", Normal(loc, self.log_scale.exp().expand_as(loc)))

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        return Loss.of({"y": -Normal(self.loc, self.log_scale.exp()).log_prob(batch.y).sum(1).mean()})


class Loaded(DGM):
    """No loss of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1))

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        sites.target("y", Normal(self.loc.expand(sites.batch_size, 1), 1.0))


def options(**changes: Any) -> Training:
    """Moves a point by 0.1 a step, at first."""
    usual = {"steps": 20, "batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.0, "log_every": 5}
    return Training(**usual | {"checkpoint_every": 3, "validate_every": 2} | changes)


def at(value: float, count: int = 10) -> Batch:
    return Batch(torch.full((count, 1), value))


def fitted(student: DGM | None = None, validation: Batch | None = None, **changes: Any) -> tuple[DGM, Fitted]:
    """A point that learns 10 and is validated on 0.5, which it passes at about step 5."""
    student = Line() if student is None else student
    keys = ("directory", "progress", "seed", "objective", "teacher")
    arguments = {key: changes.pop(key) for key in keys if key in changes}
    objective = arguments.pop("objective", methods.scratch())
    validation = at(0.5) if validation is None else validation
    return student, fit(student, objective, options(**changes), data=at(10.0), validation=validation, **arguments)


class TestWhatIsKept:
    def test_the_best_of_those_that_were_measured(self) -> None:
        student, found = fitted()
        by_step = {row["step"]: row["validation"] for row in found.history.rows if "validation" in row}
        assert sorted(by_step) == list(range(2, 21, 2))
        assert by_step[found.best_step] == min(by_step.values()) == found.validation
        assert found.best_step in (4, 6)
        assert student.loss(at(0.5)).total.item() == pytest.approx(found.validation, rel=1e-6)
        assert abs(student.point.item() - 0.5) <= 0.1 < abs(fitted(validation=at(10.0))[0].point.item() - 0.5)

    def test_validation_alone_changes_no_step(self) -> None:
        """Where the last weights are the best, they are those of a training without validation, bit for bit."""
        student, found = fitted(Line(noise=1.0), validation=at(10.0), steps=7)
        plain = Line(noise=1.0)
        fit(plain, methods.scratch(), options(steps=7, validate_every=None), data=at(10.0))
        assert found.best_step == found.steps_taken == 7
        assert weights_fingerprint(student) == weights_fingerprint(plain)

    def test_last_step_is_measured_too(self) -> None:
        _, found = fitted(validation=at(10.0), steps=5, validate_every=3)
        assert [row["step"] for row in found.history.rows if "validation" in row] == [3, 5]
        assert found.best_step == 5

    def test_all_steps_without_patience(self) -> None:
        assert fitted()[1].steps_taken == 20

    def test_moving_average_is_what_is_measured_and_kept(self) -> None:
        student, found = fitted(ema=0.9)
        assert student.loss(at(0.5)).total.item() == pytest.approx(found.validation, rel=1e-6)
        assert found.best_step > fitted()[1].best_step  # the average follows behind

    def test_average_and_steps_go_on_as_without_validation(self) -> None:
        student, found = fitted(ema=0.9, validation=at(10.0))
        plain = Line()
        fit(plain, methods.scratch(), options(ema=0.9, validate_every=None), data=at(10.0))
        assert found.best_step == 20
        assert weights_fingerprint(student) == weights_fingerprint(plain)

    def test_overfitting(self) -> None:
        """Of three rows the deviations are learned far too small; others notice long before the end."""
        torch.manual_seed(0)
        few, others = Batch(torch.randn(3, 8)), Batch(torch.randn(200, 8))
        student, over = Gaussian(), Gaussian()
        common = {"steps": 400, "batch_size": 3, "learning_rate": 0.02, "checkpoint_every": 500}
        settings = options(**common, validate_every=5, patience=4)
        found = fit(student, methods.scratch(), settings, data=few, validation=others)
        fit(over, methods.scratch(), options(**common, validate_every=None), data=few)
        assert 0 < found.best_step < found.steps_taken < 200
        assert student.loss(others).total < over.loss(others).total - 1.0
        assert student.loss(few).total > over.loss(few).total + 1.0

    def test_student_that_is_not_trained_on_data(self) -> None:
        teacher = Line()
        with torch.no_grad():
            teacher.point.fill_(10.0)
        student = Line()
        found = fit(student, methods.surrogate(), options(), teacher=teacher, validation=at(0.5))
        assert abs(student.point.item() - 0.5) <= 0.1
        assert found.best_step < 20


class TestHowItIsMeasured:
    def test_in_eval_mode_and_with_the_same_noise(self) -> None:
        student, found = fitted(Line(noise=1.0, norm=True), learning_rate=1e-12, steps=6)
        measured = {row["validation"] for row in found.history.rows if "validation" in row}
        assert max(measured) - min(measured) < 1e-6
        assert student.modes == [True, True, False] * 3
        assert student.norm.running_mean.item() == pytest.approx(10.0 * (1 - 0.9**found.best_step), rel=1e-4)

    def test_mean_over_all_rows_whatever_the_chunks(self) -> None:
        validation = Batch(torch.arange(37.0).view(-1, 1))
        _, found = fitted(validation=validation, steps=1, batch_size=2)
        expected = 0.5 * (validation.y - 0.1).square().mean().item()
        assert found.validation == pytest.approx(expected, rel=1e-5)

    def test_bytes(self) -> None:
        images = (255 * rows().y).to(torch.uint8)
        student = built()
        found = fit(student, methods.scratch(), options(steps=2), data=Batch(images), validation=Batch(images))
        assert found.validation == pytest.approx(student.loss(Batch(images.float() / 255)).total.item(), rel=1e-5)

    def test_not_a_number_is_no_best(self) -> None:
        """Infinite at first, then finite: the finite one is kept, and patience has counted the infinite ones."""

        class Late(Line):
            def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
                total = super().loss(batch).total
                return Loss.of({"y": total if self.training or self.point > 0.5 else total * math.nan})

        _, found = fitted(Late(), validation=at(10.0), steps=10)
        measured = [row["validation"] for row in found.history.rows if "validation" in row]
        assert measured[0] == math.inf
        assert found.best_step == 10
        assert math.isfinite(found.validation)

    def test_never_finite(self) -> None:
        with pytest.raises(NonFiniteLossError, match="on the 10 validation rows was NaN or infinite each time"):
            fitted(Broken(), validation=at(-1.0))


class TestStopping:
    def test_after_patience(self) -> None:
        _, found = fitted(patience=3)
        assert found.steps_taken == found.best_step + 2 * 3 < 20
        assert found.history.rows[-1]["step"] == found.steps_taken

    def test_best_is_the_same_as_without(self) -> None:
        assert weights_fingerprint(fitted(patience=2)[0]) == weights_fingerprint(fitted()[0])

    def test_is_told(self) -> None:
        recorder = Recorder()
        _, found = fitted(patience=3, progress=recorder)
        assert recorder.losses == [row["validation"] for row in found.history.rows if "validation" in row]
        assert recorder.stops == [found.steps_taken]
        told = f"stopped after {found.steps_taken} steps; best on validation rows at step {found.best_step}"
        assert told in recorder.messages[-1]

    def test_bars_expect_fewer_steps(self) -> None:
        progress = TerminalProgress()
        progress.expect(200)
        for _ in range(2):
            progress.start("student", 100)
            progress.advance(30)
            progress.validated(0.25)
            progress.stop(40)
        whole, stage = progress._bars.tasks
        assert (whole.total, whole.completed) == (80, 80)
        assert (stage.total, stage.completed) == (40, 40)


class TestInterruption:
    """At any moment, by kill -9: the same weights, numbers and steps as without."""

    def run(self, directory: Path, **changes: Any) -> tuple[DGM, Fitted]:
        return fitted(Line(noise=0.3, norm=True), directory=directory, patience=3, **changes)

    @pytest.mark.parametrize("ema", [None, 0.5])
    @pytest.mark.parametrize("every", [1, 2, 3])
    def test_continues_bit_for_bit(self, tmp_path: Path, ema: float | None, every: int) -> None:
        expected, whole = fitted(Line(noise=0.3, norm=True), patience=3, ema=ema)
        assert whole.steps_taken < 20
        resumed = set()
        for moment in range(2, whole.steps_taken + 1, 2):
            directory = tmp_path / str(moment)
            with pytest.raises(InterruptedError):
                self.run(directory, ema=ema, checkpoint_every=every, progress=Interrupting(moment), log_every=1)
            student, found = self.run(directory, ema=ema, checkpoint_every=every, log_every=1)
            assert weights_fingerprint(student) == weights_fingerprint(expected)
            same = (found.steps_taken, found.best_step, found.validation)
            assert same == (whole.steps_taken, whole.best_step, whole.validation)
            resumed.add(found.resumed_at)
        assert len(resumed) > 2

    def test_killed(self, tmp_path: Path) -> None:
        expected, whole = fitted(Line(noise=0.3, norm=True), patience=3)

        def victim() -> None:
            student = Line(noise=0.3, norm=True)
            student.loss = counted(student.loss, 16, die)  # type: ignore[method-assign]
            fitted(student, directory=tmp_path, patience=3)

        assert in_child(victim) == -9
        student, found = self.run(tmp_path)
        assert found.resumed_at == 9
        assert found.steps_taken == whole.steps_taken
        assert weights_fingerprint(student) == weights_fingerprint(expected)

    def test_killed_after_it_stopped(self, tmp_path: Path) -> None:
        """The decision to stop needs no record: what led to it is repeated."""
        expected, whole = fitted(Line(noise=0.3, norm=True), patience=3)
        self.run(tmp_path, checkpoint_every=1)
        assert read_checkpoint(tmp_path / LAST)["global_step"] == whole.steps_taken - 1
        student, found = self.run(tmp_path, checkpoint_every=1)
        assert found.resumed_at == found.steps_taken - 1 == whole.steps_taken - 1
        assert weights_fingerprint(student) == weights_fingerprint(expected)


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"validate_every": 0}, "validate_every must be at least 1, not 0"),
            ({"patience": 0}, "patience must be at least 1, not 0"),
            ({"validate_every": None, "patience": 3}, "patience counts validations; give validate_every"),
            ({"validate_every": None, "validate_on": "pairs"}, "say how often with validate_every"),
            ({"validate_on": "samples"}, "validate_on must be one of rows, pairs"),
            ({"betas": (0.9, 1.0)}, r"betas are two decays in \[0, 1\), not \(0.9, 1.0\)"),
        ],
    )
    def test_settings(self, changes: dict[str, Any], match: str) -> None:
        with pytest.raises(RecipeError, match=match):
            options(**changes)

    def test_no_rows_to_validate_on(self) -> None:
        with pytest.raises(RecipeError, match=r"training is to stop .* there are none; give data"):
            fit(Line(), methods.scratch(), options(), data=at(1.0))
        with pytest.raises(DataError, match="validation split is empty"):
            fit(Line(), methods.scratch(), options(), data=at(1.0), validation=at(1.0, 0))

    def test_pairs_for_methods_that_see_data(self) -> None:
        with pytest.raises(RecipeError, match="learns from rows of data and cannot be validated"):
            fitted(validate_on="pairs")

    def test_student_without_a_loss(self) -> None:
        with pytest.raises(RecipeError, match=r"Loaded has no loss on data; define loss\(self, batch"):
            fit(Loaded(), methods.surrogate(), options(), teacher=Loaded(), validation=at(1.0))

    def test_loss_that_the_method_leaves_meaningless(self) -> None:
        with pytest.raises(RecipeError, match="loss of Tiny on rows needs its inference network"):
            fit(built(), methods.surrogate(), options(), teacher=built(), validation=rows())

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
    def test_recipes_say_it_before_anything_runs(self, changes: dict[str, Any], match: str) -> None:
        parts = {"teacher": Line(), "student": Line(), "objective": methods.surrogate(), "data": Spots()}
        with pytest.raises(RecipeError, match=match):
            Recipe("toy", evaluation=Quick(), training=options(), **parts | changes)


class TestUnseenPairs:
    """What is measured is the objective, on draws of the teacher that no step sees."""

    def learned(self, teacher: DGM, **changes: Any) -> tuple[DGM, Fitted]:
        student = built(Sampler, seed=1)
        keys = ("directory", "progress", "objective", "validation")
        arguments = {key: changes.pop(key) for key in keys if key in changes}
        objective = arguments.pop("objective", methods.surrogate(0.0))
        settings = options(**{"learning_rate": 0.02, "validate_every": 4} | changes)
        return student, fit(student, objective, settings, teacher=teacher, **arguments)

    def replayed(self, directory: Path, **changes: Any) -> RecordedTeacher:
        settings = {"count": 16, "held_out": 12, "page_rows": 4, "shard_rows": 8, "dtype": "float32"}
        return record(built(Sampler), Pairs(**settings | changes), directory)

    def test_every_held_out_pair_once(self, tmp_path: Path) -> None:
        teacher = self.replayed(tmp_path)
        told = Recorder()
        student, found = self.learned(teacher, steps=4, batch_size=2, progress=told)  # parts of 8 and 4 rows
        with teacher.held_out.reading(0, 12), torch.no_grad():
            expected = methods.surrogate(0.0)(teacher.held_out, student, batch_size=12).total.item()
        assert found.validation == pytest.approx(expected, rel=1e-5)
        assert told.messages == [
            f"training: done after 4 steps; best on unseen pairs at step 4: {found.validation:.6g}"
        ]

    def test_too_few_pairs_are_learned_by_heart(self, tmp_path: Path) -> None:
        """A wide student of four pairs: those held out get worse long before the end."""
        teacher = self.replayed(tmp_path, count=4, held_out=64)

        class Wide(Sampler):
            def __init__(self) -> None:
                super().__init__()
                self.wide = nn.Sequential(nn.Linear(16, 256), nn.Tanh(), nn.Linear(256, 16))

            def step(self, state: Tensor, others: list[Tensor]) -> Tensor:
                return self.wide(state.flatten(1)).view_as(state)

        student = built(Wide, seed=1)
        settings = options(steps=200, learning_rate=0.01, validate_every=5, patience=4, optimizer="adam")
        found = fit(student, methods.surrogate(0.0), settings, teacher=teacher)
        assert 0 < found.best_step < found.steps_taken < 200

    def test_fresh_draws_are_the_same_each_time(self) -> None:
        _, found = self.learned(built(Sampler), learning_rate=1e-12, steps=8, validate_every=2)
        measured = {row["validation"] for row in found.history.rows if "validation" in row}
        assert max(measured) - min(measured) < 1e-6
        assert len(measured) >= 1

    def test_fresh_draws_are_never_those_of_a_step(self) -> None:
        teacher = Watching()
        self.learned(teacher, steps=6, validate_every=3)
        steps, validations = teacher.seen
        assert (len(steps), len(validations)) == (6 * 4, 2 * 16 * 4)
        assert len(set(validations)) == 16 * 4
        assert not set(steps) & set(validations)

    def test_changes_no_step(self, tmp_path: Path) -> None:
        for number, teacher in enumerate((built(Sampler), self.replayed(tmp_path))):
            student, found = self.learned(teacher, steps=8, ema=0.5 if number else None)
            plain, _ = self.learned(teacher, steps=8, ema=0.5 if number else None, validate_every=None)
            assert found.best_step == 8
            assert weights_fingerprint(student) == weights_fingerprint(plain)

    def test_average_is_what_is_measured(self, tmp_path: Path) -> None:
        teacher = self.replayed(tmp_path)
        student, found = self.learned(teacher, ema=0.8)
        with teacher.held_out.reading(0, 12), torch.no_grad():
            expected = methods.surrogate(0.0)(teacher.held_out, student, batch_size=12).total.item()
        assert found.validation == pytest.approx(expected, rel=1e-5)

    def test_conditioned(self, tmp_path: Path) -> None:
        teacher = built(Sampler, classes=3)
        settings = Pairs(16, held_out=12, page_rows=4, shard_rows=8)
        replayed = record(teacher, settings, tmp_path, inputs=torch.eye(3))
        for source, x in ((replayed, None), (teacher, torch.eye(3))):
            student = built(Sampler, seed=1, classes=3)
            found = fit(student, methods.surrogate(0.0), options(learning_rate=0.02), teacher=source, teacher_inputs=x)
            assert found.best_step > 0

    def test_continues_bit_for_bit(self, tmp_path: Path) -> None:
        teacher = self.replayed(tmp_path / "pairs")
        expected, whole = self.learned(teacher)

        def victim() -> None:
            StudentModule.training_step = counted(StudentModule.training_step, 15)  # type: ignore[method-assign]
            self.learned(teacher, directory=tmp_path / "run")

        assert in_child(victim) == -9
        student, found = self.learned(teacher, directory=tmp_path / "run")
        assert found.resumed_at > 0
        assert weights_fingerprint(student) == weights_fingerprint(expected)
        assert (found.best_step, found.validation) == (whole.best_step, whole.validation)

    def test_rows_where_there_are_any_unless_it_is_said(self, tmp_path: Path) -> None:
        """As it was before there were pairs; recorded ones are preferred by who asks for them."""

        def on(teacher: DGM, **changes: Any) -> str:
            told = Recorder()
            student = Line()
            fit(student, methods.surrogate(), options(steps=2, **changes), teacher=teacher, validation=at(0.5),
                progress=told)  # fmt: skip
            return told.messages[-1].split("best on ")[1].split(" at")[0]

        assert on(Line()) == "validation rows"
        assert on(Line(), validate_on="pairs") == "unseen pairs"
        assert on(record(Line(), Pairs(8, held_out=4, page_rows=4, shard_rows=4), tmp_path)) == "unseen pairs"

    def test_settings_left_alone_are_no_part_of_an_identity(self) -> None:
        assert not {"validate_on", "betas"} & set(options().essential())
        assert options(betas=(0.9, 0.98)).essential()["betas"] == (0.9, 0.98)
        assert options(validate_on="pairs").essential()["validate_on"] == "pairs"

    def test_betas_are_those_of_the_optimiser(self) -> None:
        companions = Companions(None, None)
        for optimizer in ("adam", "adamw"):
            module = StudentModule(
                Line(), methods.scratch(), companions, options(optimizer=optimizer, betas=(0.5, 0.98)), 0
            )
            assert module.configure_optimizers()["optimizer"].param_groups[0]["betas"] == (0.5, 0.98)


class Watching(Sampler):
    """Remembers the rows of noise that it was asked for, in training and in validation."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: tuple[list[Any], list[Any]] = ([], [])

    def trace(self, batch_size: int | None = None, *arguments: Any, **named: Any) -> Any:
        found = super().trace(batch_size, *arguments, **named)
        measuring = any(frame.function == "_measure" for frame in inspect.stack(0))
        self.seen[measuring].extend(tuple(row.tolist()) for row in found["x_T"].noise.flatten(1))
        return found


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

    def test_identity_of_a_data_free_student(self) -> None:
        """It depends on the rows only if they choose among its weights."""

        def key(rows_key: str, **changes: Any) -> str:
            toy = Recipe("toy", Line(), Line(), methods.surrogate(), Quick(), data=Spots(), training=options(**changes))
            return student_key(toy, "surrogate", 0, "teacher", rows_key)

        assert key("a", validate_every=None) == key("b", validate_every=None)
        assert key("a") != key("b")
        assert len({key("a"), key("a", validate_every=3), key("a", patience=1), key("a", validate_every=None)}) == 4
        assert key("a", log_every=7, checkpoint_every=11) == key("a")

    def test_dry_run_validates(self) -> None:
        assert Training(validate_every=1000, patience=2).shortened(4, 16).validate_every == 2
        assert Training().shortened(4, 16).validate_every is None

    def test_distill(self, tmp_path: Path) -> None:
        teacher, student = Line(), Line()
        with torch.no_grad():
            teacher.point.fill_(10.0)
        told = {"training": options(), "progress": False, "directory": tmp_path / "out"}
        distill(teacher, student, validation=at(0.5), **told)
        assert abs(student.point.item() - 0.5) <= 0.1
        again = Line()
        distill(teacher, again, validation=at(0.5), **told)
        assert torch.equal(again.point, student.point)
