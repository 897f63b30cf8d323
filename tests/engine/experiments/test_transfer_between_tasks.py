"""Students of few rows, or of another task than their teacher's: who sees which rows, starts where, is measured how."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import limbeck
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.methods import scratch, transfer
from limbeck.data import Digits
from limbeck.engine import ClassifierEvaluation, Training, predict
from limbeck.engine.experiments.choosing import Chosen
from limbeck.engine.experiments.experiment import Experiment
from limbeck.engine.experiments.learners import Learners
from limbeck.engine.experiments.recipe import Baseline, Recipe
from limbeck.engine.experiments.run_data import RunData
from limbeck.engine.experiments.shared_stages import SharedStages
from limbeck.engine.experiments.source_start import for_classes
from limbeck.engine.experiments.stage_keys import student_key, teacher_key
from limbeck.engine.experiments.training_stage import TrainingStage
from limbeck.engine.stages.progress import Progress
from limbeck.engine.sweeps.sweep_plan import Point, plan
from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.metrics import RunResults
from limbeck.models import NetworkClassifier
from limbeck.report.run_tables import gaps

COLOURED = NetworkClassifier("ConvNet", {"widths": [4], "channels": 3})
FEW = Training(steps=2, batch_size=16, checkpoint_every=50, log_every=1)


def network(classes: int = 10, widths: tuple[int, ...] = (4, 4), normalize: bool = False) -> NetworkClassifier:
    settings = {"widths": list(widths), "channels": 1, "classes": classes}
    return NetworkClassifier("ConvNet", settings, normalize=normalize)


def recipe(**changes: Any) -> Recipe:
    found: dict[str, Any] = {
        "title": "Digits",
        "teacher": network(widths=(6, 6)),
        "student": network(),
        "objective": transfer(["y:kd"]),
        "method": "kd",
        "baselines": {"scratch": Baseline(scratch()), "fine": Baseline(scratch(), start="source")},
        "evaluation": ClassifierEvaluation(draws=1, timing=0.001, primary="accuracy"),
        "data": Digits(),
        "target": "labels",
        "condition": "images",
        "teacher_training": FEW,
        "training": FEW,
    }
    return Recipe(**found | changes)


def transferred(**changes: Any) -> Recipe:
    """From four digits to the other six: a teacher and students of other classes."""
    found: dict[str, Any] = {
        "teacher_data": Digits(classes=[0, 1, 2, 3]),
        "data": Digits(classes=[4, 5, 6, 7, 8, 9]),
        "teacher": network(4),
        "student": network(6),
        "objective": transfer([]),
    }
    return recipe(**found | changes)


def learners(of: Recipe, folder: Path, shared: SharedStages | None = None) -> Learners:
    dataset = of.data.load()
    data = RunData(of, dataset, dataset if of.teacher_data is None else of.teacher_data.load())
    return Learners(of, data, folder, Progress(), shared, folder / "cache")


def student_stage(found: Learners, method: str, seed: int) -> TrainingStage:
    return found.stages.student(found.lesson(found.recipe, method, seed, None, found.data.tasks[0]))


def run(of: Recipe, folder: Path) -> RunResults:
    return Experiment(
        of, resolved="", name="digits", directory=folder, cache=folder / "cache", command="", progress=Progress()
    ).run()


class TestFewRows:
    def rows(self, per_class: int | None, method: str, seed: int, folder: Path) -> torch.Tensor:
        found = learners(recipe(per_class=per_class), folder)
        stage = student_stage(found, method, seed)
        assert stage.rows is not None
        assert stage.rows.x is not None
        assert len(stage.rows.x) == len(stage.rows.y)
        if per_class is not None:
            assert stage.rows.y.bincount().tolist() == [per_class] * 10
        return stage.rows.x.flatten(1)

    def test_which(self, tmp_path: Path) -> None:
        few, other = self.rows(5, "scratch", 0, tmp_path), self.rows(5, "scratch", 1, tmp_path)
        assert torch.equal(few, self.rows(5, "kd", 0, tmp_path))
        assert not torch.equal(few, other)
        more = {tuple(row.tolist()) for row in self.rows(20, "scratch", 0, tmp_path)}
        assert {tuple(row.tolist()) for row in few} <= more

    def test_the_teacher_and_the_start_have_all(self, tmp_path: Path) -> None:
        found = learners(recipe(per_class=5), tmp_path)
        everything = len(found.data.tasks[0].rows or ())
        assert len(found.stages.teacher().rows or ()) == everything > 1000
        assert len(self.rows(None, "scratch", 0, tmp_path)) == everything

    def test_fingerprints(self) -> None:
        """Only the students' depend on it, and only where it is set."""
        keys = {
            number: [student_key(recipe(per_class=number), method, 0, "t", "r") for method in ("kd", "scratch")]
            for number in (None, 5, 6)
        }
        assert len({key for group in keys.values() for key in group}) == 6
        assert teacher_key(recipe(per_class=5), "r") == teacher_key(recipe(), "r")

    def test_a_sweep_trains_teacher_and_start_once(self, tmp_path: Path) -> None:
        points = [Point(str(m), (m,), recipe(per_class=m), "", "") for m in (5, 6)]
        first, second = plan(points)
        told = [(part.point, part.method) for part in first]
        assert sorted(told, key=str) == sorted(
            [(0, None), *((i, m) for i in (0, 1) for m in ("scratch", "fine"))], key=str
        )
        assert [(part.point, part.method) for part in second] == [(0, "kd"), (1, "kd")]
        shared = SharedStages(tmp_path / "stages")
        for point in points:
            learners(point.recipe, tmp_path / point.name, shared).student(Chosen(point.recipe), "fine", 0, None)
        trained = [folder for folder in (tmp_path / "stages").iterdir() if (folder / "config.json").exists()]
        assert len(trained) == 3  # one start, two that were tuned from it

    def test_too_few(self, tmp_path: Path) -> None:
        words = r"per_class: 1,000 rows of each class .* class 0 has \d+, .* and 7 more; ask for at most \d+"
        with pytest.raises(DataError, match=words):
            self.rows(1000, "scratch", 0, tmp_path)
        # Not after a teacher that took hours.
        with pytest.raises(DataError, match=words):
            run(recipe(per_class=1000), tmp_path / "run")
        assert not (tmp_path / "run/teacher").exists()
        assert recipe(per_class=50).dry().per_class == 2


class TestTransfer:
    def test_each_is_measured_on_its_own_data(self, tmp_path: Path) -> None:
        of = transferred()
        results = run(of, tmp_path)
        assert results.teacher_elsewhere
        assert gaps(results) is None
        assert any("other" not in note and "its test rows" in note for note in results.notes)
        teacher, *students = results.results
        test = of.teacher_data.load().test
        right = predict(DGM.from_pretrained(tmp_path / "teacher"), test.images).argmax(1) == test.labels
        assert teacher.values["accuracy"] == pytest.approx(100 * right.double().mean().item())
        for result in students:
            assert "kl_teacher" not in result.values
            assert "agreement" not in result.values
        assert DGM.from_pretrained(tmp_path / "students/kd/0").config["settings"]["classes"] == 6

    def test_one_task(self, tmp_path: Path) -> None:
        results = run(recipe(baselines={"scratch": Baseline(scratch())}), tmp_path)
        assert not results.teacher_elsewhere
        assert {"kl_teacher", "agreement", "nll"} <= set(results.results[-1].values)
        assert results.measures[0].key == "accuracy"


class TestStart:
    def test_body_of_the_source_and_a_head_of_its_own(self, tmp_path: Path) -> None:
        baselines = {"fine": Baseline(scratch(), start="source"), "too": Baseline(transfer([]), start="source")}
        found = learners(transferred(baselines=baselines), tmp_path)
        stages = [student_stage(found, method, seed) for method in baselines for seed in (0, 1)]
        assert len({id(stage.initial) for stage in stages}) == 1
        start = stages[0].initial
        assert start is not None
        assert start.config["settings"]["classes"] == 4
        student = network(6)
        before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
        student.start_from(start)
        for name, tensor in student.state_dict().items():
            head = before[name].shape != start.state_dict()[name].shape
            assert head == name.startswith("network.head")
            assert torch.equal(tensor, before[name] if head else start.state_dict()[name])

    def test_the_whole_network_where_the_classes_agree(self, tmp_path: Path) -> None:
        found = learners(recipe(), tmp_path)
        start = student_stage(found, "fine", 0).initial
        assert start is not None
        student = network()
        student.start_from(start)
        assert all(torch.equal(start.state_dict()[name], tensor) for name, tensor in student.state_dict().items())
        assert (tmp_path / "start" / "training.json").is_file()
        key = student_key(recipe(), "fine", 0, "t", "r", "one")
        assert key != student_key(recipe(), "fine", 0, "t", "r", "two")

    def test_constants_of_the_data_are_taken_over(self) -> None:
        source, student = network(4, normalize=True), network(6, normalize=True)
        student.start_from(source.standardize([0.25], [0.5]))
        assert (student.mean.item(), student.deviation.item()) == (0.25, 0.5)
        assert bool(student.adapted)
        for mean, deviation in (([0.25], [0.0]), ([0.25, 0.3], [1.0]), ([], [])):
            with pytest.raises(ModelError, match="positive deviation of each channel"):
                source.standardize(mean, deviation)
        with pytest.raises(ModelError, match="build it with normalize"):
            network().standardize([0.25], [0.5])

    def test_another_architecture(self) -> None:
        with pytest.raises(ModelError, match="only the last layer may differ"):
            network().start_from(network(widths=(4, 6)))

    def test_a_network_that_has_one_number_of_classes_only(self) -> None:
        class Fixed(torch.nn.Sequential):
            def __init__(self) -> None:
                super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, 10))

        images = torch.zeros(2, 1, 8, 8)
        wrapped = NetworkClassifier.wrap(Fixed())
        assert for_classes(wrapped, 10, images) is wrapped
        with pytest.raises(RecipeError, match="no argument 'classes'"):
            for_classes(wrapped, 4, images)


class TestBadInput:
    """All of it is told before anything is trained."""

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"teacher": network(7)}, "the teacher has 7 classes, but the labels of digits go up to 9"),
            ({"student": network(9)}, "the student of 'kd' has 9 classes"),
            ({"objective": transfer(["h[*]->g[*]:kd"])}, r"'kd': the student has no site 'g\[0\]'"),
            ({"data": Digits(size=8), "teacher": network(12), "baselines": {}}, "'kd': "),
            ({"teacher": COLOURED}, "the teacher: ConvNet is built for images of shape"),
        ],
        ids=["teacher's classes", "student's classes", "site", "KD between other classes", "channels"],
    )
    def test_models_and_methods(self, changes: dict[str, Any], told: str, tmp_path: Path) -> None:
        with pytest.raises((RecipeError, ModelError), match=told):
            run(recipe(**changes), tmp_path)
        assert not (tmp_path / "teacher").exists()

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"per_class": 0}, "per_class must be at least 1"),
            ({"tasks": "labels", "condition": "labels", "per_class": 3}, "with tasks there is no per_class"),
            ({"teacher_training": None}, "give the recipe teacher_training"),
            ({"teacher_from": "somewhere"}, "give the recipe teacher_data"),
        ],
    )
    def test_recipes(self, changes: dict[str, Any], told: str) -> None:
        with pytest.raises(RecipeError, match=told):
            recipe(**changes)

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"h": Baseline(transfer(["h[7]:vid"]))}, r"'h': no teacher site fits the match 'h\[7\]'"),
            ({"five": Baseline(transfer(["h[1]:vid"]), start="source")}, "'five' starts from .*source.* cannot start"),
        ],
        ids=["a layer that the loaded teacher lacks", "another architecture"],
    )
    def test_models_that_were_trained_before(self, changes: dict[str, Any], told: str, tmp_path: Path) -> None:
        network(widths=(6, 6)).save_pretrained(tmp_path / "teacher")
        network(widths=(4, 6)).save_pretrained(tmp_path / "source")
        elsewhere = {"teacher_from": str(tmp_path / "teacher"), "source_from": str(tmp_path / "source")}
        deeper = network(widths=(4,) * 8)
        with pytest.raises(RecipeError, match=told):
            run(recipe(teacher=deeper, baselines=changes, **elsewhere), tmp_path / "run")
        assert not (tmp_path / "run" / "students").exists()

    def test_rehearsal_changes_nothing(self, tmp_path: Path) -> None:
        of = recipe(baselines={})
        models = of.teacher, of.student
        before = [{name: tensor.clone() for name, tensor in model.state_dict().items()} for model in models]
        run(dataclasses.replace(of, training=dataclasses.replace(FEW, steps=1)), tmp_path)
        for model, kept in zip(models, before, strict=True):
            assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())


def test_distilling_writes_what_was_learned_beside_the_student(tmp_path: Path) -> None:
    data = Digits(limit=32).load()
    rows = Batch(data.train.labels, data.train.images)
    objective = transfer(["h[*]:vid", "y:kd"])
    settings = {"data": rows, "training": FEW, "progress": False}
    found = limbeck.distill(network(widths=(6, 6)), network(), objective, directory=tmp_path, **settings)
    trained = found.objective.state_dict()
    assert found.metrics["parameters_objective"] == sum(p.numel() for p in found.objective.parameters()) > 0
    assert "parameters_objective" not in limbeck.distill(network(), network(), transfer(["y:kd"]), **settings).metrics
    kept = load_file(tmp_path / "objective.safetensors")
    assert kept.keys() == trained.keys()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in kept.items())
    assert any("h[1]" in name for name in kept)
    # What cannot be saved is told before it learns.
    wrapped = NetworkClassifier.wrap(network().network)
    with pytest.raises(ModelError, match=r"NetworkClassifier.wrap\(..., network=, settings=\)"):
        limbeck.distill(network(), wrapped, transfer(["y:kd"]), directory=tmp_path / "b", **settings)
    assert not (tmp_path / "b").exists()
