"""Tasks learned one after another: who starts where, who teaches whom, and which rows each of them sees."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from limbeck.core.divergence import kl
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.methods import scratch
from limbeck.core.objective import Match, Objective
from limbeck.data import DataSource, TableDataset, TableSplit
from limbeck.engine.evaluations.evaluation import Evaluation, Judge
from limbeck.engine.experiments.experiment import Experiment
from limbeck.engine.experiments.recipe import Baseline, Recipe
from limbeck.engine.experiments.shared_stages import SharedStages
from limbeck.engine.experiments.tasks import cut, tasks_of
from limbeck.engine.settings.options import Training
from limbeck.engine.stages.progress import Progress
from limbeck.engine.training.fit import fit
from limbeck.errors import DataError, RecipeError
from limbeck.metrics import Measure

MEANS = (1.0, 2.0, 4.0)


class CodedSplit(TableSplit):
    """Rows of one column; the row's value is near the mean of its task."""

    @property
    def parts(self):
        codes = torch.stack([(self.values[:, 0] - mean).abs() < 0.5 for mean in MEANS], dim=1)
        return {"values": self.values, "codes": codes.float(), "raw": codes.float() * 2}


class Coded(DataSource):
    def __init__(self, tasks: int = 3) -> None:
        self.tasks = tasks

    def load(self):
        torch.manual_seed(0)
        values = torch.cat([mean + 0.1 * torch.randn(40, 1) for mean in MEANS[: self.tasks]])
        split = CodedSplit(values[torch.randperm(len(values))])
        return TableDataset("coded", split, split, split, columns=("value",))


class Table(DGM):
    """A mean a task, looked up: what was learned of one task does not change with another's rows."""

    def __init__(self, tasks: int = 3) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.zeros(tasks))
        self.register_buffer("adapted", torch.tensor(0.0))

    def adapt(self, batch):
        if not self.adapted:
            self.adapted.fill_(batch.y.mean())

    def generate(self, sites, x=None):
        sites.target("y", Normal((x @ self.means)[:, None], 0.1))

    def loss(self, batch, *, progress=1.0):
        return Loss.of({"y": (batch.y[:, 0] - batch.x @ self.means).square().mean()})


class Watch(Evaluation):
    def measures(self, dataset):
        return [Measure("means", "means", "neither", 1)]

    def dry(self):
        return self

    def judge(self, dataset, teacher, cache, seed, progress):
        return WatchJudge()


class WatchJudge(Judge):
    seed = 0
    reference_key = ""

    def __init__(self) -> None:
        self.references = {}
        self.notes = []

    def measure(self, subject):
        assert subject.model is subject.history[-1]
        models = enumerate(subject.history)
        values = {f"after {n} of {t}": m.item() for n, model in models for t, m in enumerate(model.means)}
        return values | {"infers": float(subject.infers), "adapted": subject.model.adapted.item()}


def recipe(**changes) -> Recipe:
    ours = Objective([Match("y", divergence=kl)], train_weight=1.0)
    return Recipe(**{
        "title": "tasks", "teacher": Table(), "student": Table(), "objective": ours, "method": "ours",
        "baselines": {"fine-tuning": Baseline(scratch()), "joint": Baseline(scratch(), rows="all")},
        "evaluation": Watch(), "data": Coded(), "target": "values", "condition": "codes", "tasks": "codes",
        "teacher_training": Training(steps=200, batch_size=16, learning_rate=0.05),
        "training": Training(steps=200, batch_size=16, learning_rate=0.05),
    } | changes)  # fmt: skip


def run(directory: Path, recipe: Recipe, **options) -> dict:
    experiment = Experiment(
        recipe, resolved="", name="tasks", directory=directory, cache=directory, command="", progress=Progress(),
        **options,
    )  # fmt: skip
    results = experiment.run()
    return {result.method: result for result in results.results} | {"notes": results.notes}


def test_each_method_learns_one_task_after_the_other(tmp_path) -> None:
    found = run(tmp_path, recipe())
    teacher, ours = found["teacher"].values, found["ours"].values
    assert teacher["after 0 of 0"] == pytest.approx(MEANS[0], abs=0.1)
    assert teacher["after 0 of 1"] == teacher["after 0 of 2"] == 0.0  # it saw the first task alone
    # Each method starts from the teacher, learns one task at a time, and ours keeps the old ones exactly.
    for method in ("ours", "fine-tuning", "joint"):
        values = found[method].values
        assert [values[f"after 0 of {task}"] for task in range(3)] == [teacher[f"after 0 of {t}"] for t in range(3)]
        assert values["after 1 of 1"] == pytest.approx(MEANS[1], abs=0.1)
        assert values["after 1 of 2"] == 0.0
        assert values["after 2 of 2"] == pytest.approx(MEANS[2], abs=0.1)
        assert values["adapted"] == teacher["adapted"] == pytest.approx(MEANS[0], abs=0.1)  # once, by the first
    assert ours["after 2 of 0"] == pytest.approx(teacher["after 0 of 0"], abs=1e-4)
    assert ours["after 2 of 1"] == pytest.approx(ours["after 1 of 1"], abs=1e-4)
    # The joint upper bound goes on seeing old rows; in fine-tuning weight decay alone is enough to forget them.
    assert abs(found["fine-tuning"].values["after 2 of 0"]) < 0.1
    assert found["joint"].values["after 2 of 0"] == pytest.approx(MEANS[0], abs=0.1)
    assert (tmp_path / "tasks/ours/0/2/model.safetensors").exists()
    assert Table.from_pretrained(tmp_path / "students/ours/0").means[2].item() == ours["after 2 of 2"]
    assert "all students starting from the teacher's weights" in found["notes"][0]
    assert "200 steps per task" in found["notes"][0]


def test_done_again_nothing_is_repeated(tmp_path) -> None:
    found = run(tmp_path, recipe())
    again = run(tmp_path, recipe())
    assert {m: r.values for m, r in found.items() if m != "notes"} == {
        m: r.values for m, r in again.items() if m != "notes"
    }


def test_shared_stages_train_the_same_models(tmp_path) -> None:
    alone = run(tmp_path / "alone", recipe())
    shared = SharedStages(tmp_path / "stages")
    options = {"resolved": "", "name": "tasks", "cache": tmp_path, "command": "", "progress": Progress()}
    part = Experiment(recipe(), directory=tmp_path / "shared", shared=shared, **options)
    part.train()
    for method in ("ours", "fine-tuning", "joint"):
        part.train(method, 0)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "stages").rglob("model.safetensors")}
    assert len(kept) == 1 + 3 * 2
    together = run(tmp_path / "shared", recipe(), shared=shared)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for method in ("ours", "fine-tuning", "joint"):
        for key, value in alone[method].values.items():
            assert key == "train_seconds" or together[method].values[key] == value


def test_each_task_has_its_own_rows() -> None:
    dataset = Coded().load()
    tasks = tasks_of(recipe(), dataset)
    assert [len(task.rows) for task in tasks] == [40, 40, 40]
    assert [len(task.all_rows) for task in tasks] == [40, 80, 120]
    assert tasks[0].earlier is None
    assert tasks[2].earlier.tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert len({task.key for task in tasks}) == 3
    (single,) = tasks_of(recipe(tasks=None), dataset)
    assert len(single.rows) == 120
    assert single.earlier is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": "domains", "condition": "none"}, "the data have no 'domains'; there are values, codes, raw"),
        ({"tasks": "raw", "condition": "none"}, "'raw' must be one-hot"),
        ({"tasks": "values", "condition": "none"}, "'values' must be one-hot"),
        ({"data": Coded(tasks=2)}, "no training row belongs to task 3 of 3"),
    ],
)
def test_data_that_tell_no_tasks(tmp_path, changes, message) -> None:
    with pytest.raises(RecipeError, match=message):
        run(tmp_path, recipe(**changes))


def test_recipes_whose_tasks_make_no_sense() -> None:
    with pytest.raises(RecipeError, match="the condition 'codes' or 'none', not 'raw'"):
        recipe(condition="raw")
    with pytest.raises(RecipeError, match="the recipe names no data"):
        recipe(data=None, condition="none", baselines={})
    with pytest.raises(RecipeError, match="start has no effect: with tasks"):
        recipe(baselines={"fresh": Baseline(scratch(), start="random")})


def test_a_student_that_starts_from_a_teacher_of_another_size_is_told(tmp_path) -> None:
    told = "cannot start from the weights.*start: random"
    with pytest.raises(RecipeError, match=rf"'ours' starts from the teacher: .*{told}"):
        run(tmp_path, recipe(tasks=None, start="teacher", student=Table(tasks=4)))
    with pytest.raises(RecipeError, match=rf"'ours' starts from the teacher, as always with tasks: .*{told}"):
        run(tmp_path, recipe(student=Table(tasks=4)))
    assert not (tmp_path / "teacher").exists()  # told before hours of training


def test_starting_from_the_teacher_without_tasks(tmp_path) -> None:
    still = Training(steps=1, batch_size=4, learning_rate=1e-12)
    baselines = {"fresh": Baseline(scratch(), start="random")}
    found = run(tmp_path, recipe(tasks=None, start="teacher", training=still, baselines=baselines))
    expected = found["teacher"].values["after 0 of 2"]
    assert found["ours"].values["after 0 of 2"] == pytest.approx(expected) != 0.0
    assert found["fresh"].values["after 0 of 2"] == pytest.approx(0.0, abs=1e-6)
    assert "(ours starting from the teacher's weights)" in found["notes"][0]


def test_a_student_without_data_adapts_to_the_teachers_samples() -> None:
    teacher = Table()
    teacher.means.data = torch.tensor([3.0, 3.0, 3.0])
    student = Table()
    fit(
        student,
        Objective([Match("y")]),
        Training(steps=1, batch_size=4),
        teacher=teacher,
        teacher_inputs=torch.eye(3)[:2],
    )
    assert student.adapted.item() == pytest.approx(3.0, abs=0.2)


def test_a_coupling_sizes_its_parameters_before_the_optimiser_is_made() -> None:
    class Sized(nn.Module):
        scale: nn.Parameter

        def prepare(self, teacher, student, x=None):
            if not hasattr(self, "scale"):
                self.scale = nn.Parameter(torch.ones(x.shape[1]))

        def __call__(self, teacher, student, request):
            from limbeck.core.coupling import SharedNoise

            taught, learned = SharedNoise()(teacher, student, request)
            learned["y"].distribution = Normal(learned["y"].distribution.loc * self.scale.mean(), 0.1)
            return taught, learned

    teacher, student, objective = Table(), Table(), Objective([Match("y")], Sized())
    teacher.means.data.fill_(2.0)
    student.means.data.fill_(1.0)
    options = Training(steps=5, batch_size=4, learning_rate=0.1)
    fit(student, objective, options, teacher=teacher, teacher_inputs=torch.eye(3))
    assert objective.coupling.scale.shape == (3,)
    assert (objective.coupling.scale != 1.0).all()


def test_each_task_is_validated_on_its_own_rows(tmp_path) -> None:
    dataset = Coded().load()
    found = tasks_of(recipe(), dataset)
    counts = [(len(task.validation), len(task.all_validation)) for task in found]
    assert counts == [(40, 40), (40, 80), (40, 120)]
    for number, (task, mean) in enumerate(zip(found, MEANS)):
        assert task.validation.y.mean().item() == pytest.approx(mean, abs=0.05)
        assert task.all_validation.x.argmax(1).unique().tolist() == list(range(number + 1))
    training = Training(steps=40, batch_size=16, learning_rate=0.5, validate_every=2, patience=3)
    found = run(tmp_path, recipe(teacher_training=training, training=training))
    for name in ("teacher", "ours", "fine-tuning", "joint"):
        assert 0 < found[name].values["best_step"] <= found[name].values["steps_taken"]


def test_validation_rows_of_every_task(tmp_path) -> None:
    """A task without any has nothing to stop by."""

    class Lacking(Coded):
        def load(self):
            whole = super().load()
            return dataclasses.replace(
                whole, validation=CodedSplit(whole.validation.values[whole.validation.values[:, 0] < 3])
            )

    training = Training(steps=4, batch_size=16, validate_every=2)
    with pytest.raises(DataError, match="validation split is empty"):
        run(tmp_path, recipe(data=Lacking(), training=training))


def test_too_few_rows_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cut"):
        cut(Batch(torch.arange(3), torch.rand(3, 2)), 0.1, 0)


def test_cut_is_fixed_by_its_seed() -> None:
    rows = Batch(torch.rand(50), torch.arange(50.0)[:, None])
    (rest, held_out), again, other = (cut(rows, 0.2, seed) for seed in (0, 0, 1))
    assert (len(rest), len(held_out)) == (40, 10)
    assert sorted(torch.cat([rest.x, held_out.x]).flatten().tolist()) == list(range(50))
    assert torch.equal(held_out.x, again[1].x)
    assert not torch.equal(held_out.x, other[1].x)
