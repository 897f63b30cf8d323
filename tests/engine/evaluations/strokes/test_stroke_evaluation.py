"""The measures of models of drawings, on a set of a few short ones."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from limbeck.data import Digits, StrokeDataset, StrokeSplit
from limbeck.engine import StrokeEvaluation, Subject
from limbeck.engine.evaluations.strokes.stroke_encoder import with_fitted_encoder
from limbeck.engine.evaluations.strokes.stroke_evaluation import StrokeJudge
from limbeck.engine.stages.progress import Progress
from limbeck.errors import ModelError, RecipeError
from limbeck.metrics import ModelResult, RunResults, drawing_lengths
from limbeck.models import VRNN
from limbeck.report import results_table
from tests.small_models import LinearGaussian

SMALL = {"samples": 60, "particles": 8, "bound_drawings": 40, "encoder_steps": 3, "predictor_steps": 2, "grid": 4}


def drawings(rows: int, seed: int) -> Tensor:
    """Of one to four points."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(rows, 4, 4, generator=generator)
    y[..., 2] = (y[..., 2] > 0).float()
    y[..., 3] = torch.nn.functional.one_hot(torch.randint(4, (rows,), generator=generator), 4)
    return y * (torch.arange(4) < drawing_lengths(y)[:, None])[..., None]


def dataset() -> StrokeDataset:
    parts = [StrokeSplit(drawings(80, seed)) for seed in range(3)]
    return StrokeDataset("lines", *parts, longer=7)


def built(seed: int, **options: object) -> VRNN:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return VRNN(steps=4, width=5, features=4, latent_size=2, **options).eval()


def judged(teacher: VRNN, cache: Path, **settings: int) -> StrokeJudge:
    judge = StrokeEvaluation(**{**SMALL, **settings}).judge(dataset(), teacher, cache, 0, Progress())
    assert isinstance(judge, StrokeJudge)
    return judge


def test_every_value_has_its_column_and_a_picture_is_left(tmp_path: Path) -> None:
    evaluation, teacher, student = StrokeEvaluation(**SMALL), built(0), built(1, components=2)
    judge = judged(teacher, tmp_path)
    values = judge.measure(Subject(student, tmp_path / "student", False))
    assert {*values, "train_seconds"} == {measure.key for measure in evaluation.measures(dataset())}
    assert all(abs(value) < float("inf") for value in values.values())
    with Image.open(tmp_path / "student" / "samples.png") as picture:
        assert min(picture.size) > 100
    assert "7 longer drawings" in " ".join(judge.notes)
    table = results_table([
        RunResults("strokes", "run", "", "", "", evaluation.measures(dataset()),
                   [ModelResult("teacher", 0, "teacher", values)], judge.references)
    ])  # fmt: skip
    columns = [column.label for column in table.columns]
    places = [[i for i, cell in enumerate(row.cells, 1) if cell.text] for row in table.rows if row.kind == "reference"]
    assert places == [[columns.index(label)] for label in columns if "to test data" in label]
    again = judge.measure(Subject(student, tmp_path / "student", False))
    assert {k: v for k, v in again.items() if k != "samples_per_second"} == {
        k: v for k, v in values.items() if k != "samples_per_second"
    }


def test_the_teacher_against_itself(tmp_path: Path) -> None:
    teacher = built(0)
    judge = judged(teacher, tmp_path)
    mine = judge.measure(Subject(teacher, tmp_path, True))
    other = judge.measure(Subject(built(5), tmp_path, True))
    assert (mine["kl_teacher"], mine["kl_teacher_error"]) == (0.0, 0.0)
    assert other["kl_teacher"] > 0.0


def test_the_divergence_is_that_of_exact_likelihoods(tmp_path: Path) -> None:
    teacher, student = built(0), built(1)
    with torch.no_grad():
        for model in (teacher, student):  # z says nothing of y: one particle of the prior knows the likelihood
            for parameter in (*model.embed_z.parameters(), *model.encoder[-1].parameters()):
                parameter.zero_()
            model.encoder[-1].bias[2:] = 100.0  # nor does y of z
    judge = judged(teacher, tmp_path, bound_drawings=400, encoder_steps=0, particles=200)
    values = judge.measure(Subject(student, tmp_path, True))
    y = judge.divergence_drawings
    difference = teacher.log_likelihood(y, particles=1) - student.log_likelihood(y, particles=1)
    exact = difference.sum().item() / drawing_lengths(y).sum().item()
    assert values["kl_teacher"] == pytest.approx(exact, abs=0.02)
    assert 0 < values["kl_teacher_error"] < 0.2


def test_only_the_encoder_is_fitted() -> None:
    model, rows = built(0), drawings(200, 0)
    with torch.no_grad():
        model.encoder[-1].bias += torch.tensor([3.0, 3.0, -4.0, -4.0])  # sure of a wrong place
    before = copy.deepcopy(model.state_dict())
    fitted = with_fitted_encoder(model, rows, 60, seed=0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for name, value in fitted.state_dict().items():
        assert torch.equal(before[name], value) != name.startswith("encoder"), name
    loose, tight = (
        one.log_likelihood(rows, particles=4, proposal="posterior", generator=torch.Generator().manual_seed(0)).mean()
        for one in (model, fitted)
    )
    assert tight > loose + 0.5
    assert with_fitted_encoder(model, rows, 0, seed=0) is model


def test_the_predictor_is_trained_once(tmp_path: Path) -> None:
    first = judged(built(0), tmp_path).predictor
    (folder,) = (tmp_path / "predictors").iterdir()
    written = (folder / "model.safetensors").stat().st_mtime_ns
    again = judged(built(1), tmp_path).predictor
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert judged(built(0), tmp_path).reference_key != judged(built(1), tmp_path).reference_key


def test_models_of_fixed_length(tmp_path: Path) -> None:
    teacher = built(0, ends=False)
    values = judged(teacher, tmp_path).measure(Subject(built(1, ends=False), tmp_path, False))
    assert values["points"] == 4.0
    assert values["kl_teacher"] > 0.0


def test_a_model_of_more_steps_than_the_data(tmp_path: Path) -> None:
    teacher = VRNN(steps=6, width=5, features=4, latent_size=2).eval()
    judge = judged(teacher, tmp_path)
    assert judge.measure(Subject(teacher, tmp_path, True))["kl_teacher"] == 0.0
    assert "z[5]" in judge.noise


def test_a_teacher_of_another_precision(tmp_path: Path) -> None:
    judged(built(0).double(), tmp_path).measure(Subject(built(1), tmp_path, True))
    assert (tmp_path / "samples.png").is_file()


def test_the_dry_run_is_small() -> None:
    dry = StrokeEvaluation().dry()
    assert (dry.samples, dry.particles, dry.bound_drawings, dry.encoder_steps, dry.steps) == (60, 2, 4, 2, 2)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"needs drawings"):
        StrokeEvaluation().judge(Digits().load(), built(0), tmp_path, 0, Progress())
    few = StrokeDataset("few", *(StrokeSplit(drawings(rows, 0)) for rows in (8, 1, 1)))
    with pytest.raises(RecipeError, match=r"the test split of 'few' has a single one"):  # before anything is trained
        StrokeEvaluation().measures(few)
    with pytest.raises(RecipeError, match=r"evaluation\.particles must be at least 1, not 0"):
        StrokeEvaluation(particles=0)
    with pytest.raises(ModelError, match=r"LinearGaussian draws \(60, 2\)"):
        StrokeEvaluation(**SMALL).judge(dataset(), LinearGaussian([["y", "target", 2, []]]), tmp_path, 0, Progress())
