"""The recipes of flows: sizes and settings of the paper, the rows that they compare, and runs in a reduced form."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from limbeck.cli.main import main
from limbeck.cli.recipe_files import find_recipe
from limbeck.core.coupling import SharedNoise, SharedObservations
from limbeck.core.objective import Combined
from limbeck.core.trace import Kind
from limbeck.data import DigitPixels, Digits
from limbeck.engine import FlowImageEvaluation, FlowTableEvaluation
from limbeck.models import Glow, TableGlow, ZukoFlow
from tests.recipes.test_recipes import load

PUBLISHED = {  # [F] Table 2: parameters in thousands of Glow's student and teacher, and MAF's
    "flow-power": (6, 13.8, 86.7, 5.0, 10.1),
    "flow-gas": (8, 14.2, 87.8, 5.6, 11.2),
    "flow-hepmass": (21, 17.4, 96.3, 9.4, 18.9),
    "flow-miniboone": (43, 24.9, 114.2, 15.9, 31.8),
    "flow-bsds300": (63, 34.4, 134.7, 21.8, 43.6),
}
SMALL = ("flow-tabular", "flow-table")
TABLES = [name + ending for name in (*SMALL, *PUBLISHED) for ending in ("", "-maf")]
IMAGES = {  # [F] Table 5 with levels and depth in their own columns: image size, channels, depths, widths
    "glow-cifar10": (32, 3, (8, 32), (512, 512)),
    "glow-celeba": (64, 3, (16, 32), (256, 512)),
    "glow-fashion-mnist": (32, 1, (3, 8), (32, 64)),
}


def size(model) -> float:
    return round(sum(parameter.numel() for parameter in model.parameters()) / 1000, 1)


@pytest.mark.parametrize("name", [*TABLES, *IMAGES, "glow-digits"])
def test_the_rows(name: str) -> None:
    recipe, _ = load(find_recipe(name).path)
    assert list(recipe.methods) == rows_of(name)
    evaluation = FlowTableEvaluation if name in TABLES else FlowImageEvaluation
    assert isinstance(recipe.evaluation, evaluation)
    objectives = {method: baseline.objective for method, baseline in recipe.methods.items()}
    # [F] Sec. 4.2: 0.9 and 0.1 for ilkd, 0.85 and twice 0.075 for skd.
    weights = {(match.kind, match.teacher): match.weight for match in objectives["ilkd"].matches}
    assert sorted(set(weights.values())) == [0.1, 0.9]
    if "skd" in objectives:
        skd = objectives["skd"]
        assert isinstance(skd, Combined)
        parts = skd.objectives
        assert {match.weight for part in parts.values() for match in part.matches} == {0.85, 0.075}
        assert isinstance(parts["samples"].coupling, SharedNoise)
        assert [match.kind for match in parts["samples"].matches] == [Kind.TARGET]
    for method in {"ours", "skd-stable"} & set(objectives):
        couplings = [part.coupling for part in leaves(objectives[method])]
        assert all(isinstance(coupling, SharedObservations) for coupling in couplings)  # nobody's inverse is trained
    fading = [match.weight for match in objectives["ours"].matches if match.teacher != "log_prob"]
    assert all(weight(0.0) > 0.0 == weight(1.0) for weight in fading)
    if "density" in objectives:
        assert not objectives["density"].needs_data
    starts = {method for method in objectives if recipe.start_of(method) == "teacher"}
    assert starts == ({"ours", "inherited", "density"} if name.endswith("-maf") else set())
    assert not objectives["scratch"].needs_teacher
    assert recipe.training.validate_every is not None
    assert recipe.teacher_training.validate_every is not None


def rows_of(name: str) -> list[str]:
    """The methods of a recipe, in the order of the table."""
    if name.endswith("-maf"):
        return ["ours", "inherited", "skd-stable", "ilkd", "lkd", "density", "scratch"]
    if name in IMAGES:
        return ["ours", "ilkd", *(["density"] if name == "glow-fashion-mnist" else []), "scratch"]
    return ["ours", "skd-stable", "skd", "ilkd", "lkd", "density", "scratch"]


def leaves(objective):
    if isinstance(objective, Combined):
        return [leaf for part in objective.objectives.values() for leaf in leaves(part)]
    return [objective]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("ending", ["", "-maf"])
def test_tables_of_the_paper(name: str, ending: str) -> None:
    features, *sizes = PUBLISHED[name]
    recipe, _ = load(find_recipe(name + ending).path)
    kind = ZukoFlow if ending else TableGlow
    for model in (recipe.teacher, recipe.student):
        assert isinstance(model, kind)
        assert model.config["features"] == features
    wanted = sizes[2:] if ending else sizes[:2]
    assert [size(recipe.student), size(recipe.teacher)] == wanted
    for training in (recipe.teacher_training, recipe.training):
        assert (training.steps, training.batch_size, training.learning_rate) == (10_000, 65_536, 5e-5)
        assert (training.optimizer, training.schedule) == ("adamw", "constant")
    assert (recipe.target, recipe.seeds) == ("values", 3)


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_the_paper(name: str) -> None:
    pixels, channels, depths, widths = IMAGES[name]
    recipe, _ = load(find_recipe(name).path)
    assert (recipe.data.size, recipe.data.channels) == (pixels, channels)
    for model, depth, width in zip((recipe.student, recipe.teacher), depths, widths, strict=True):
        assert isinstance(model, Glow)
        config = model.config
        assert (config["image_size"], config["channels"], config["levels"]) == (pixels, channels, 3)
        assert (config["depth"], config["hidden"], config["quantization"]) == (depth, width, 256)
    ilkd = recipe.methods["ilkd"].objective.coupling
    assert isinstance(ilkd, SharedObservations)
    assert ilkd.depth == "levels"  # [F] Sec. 3.2: at each split
    if name != "glow-fashion-mnist":
        for training in (recipe.teacher_training, recipe.training):
            assert (training.steps, training.batch_size, training.learning_rate) == (10_000, 32, 5e-5)
    assert "-cnn" in recipe.description  # whose FID it is


def record(directory: Path) -> dict[str, dict[str, float]]:
    found = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    return {result["method"]: result["values"] for result in found["results"]}


@pytest.mark.parametrize("name", ["flow-tabular", "flow-tabular-maf"])
def test_a_reduced_run_of_the_embedded_table(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, _ = load(find_recipe(name).path)
    assert isinstance(recipe.data, DigitPixels)
    pools = ["--objective.pool=50"] if name.endswith("maf") else []
    status = main(["run", name, "--dry-run", f"--output={tmp_path}", *pools])
    assert status == 0, capsys.readouterr().err
    found = record(tmp_path / name / "dry-run")
    assert list(found) == ["teacher", *rows_of(name)]
    for values in found.values():
        assert {"test_log_likelihood", "test_quantile_0.001", "kl_teacher", "best_step"} <= set(values)
        assert all(math.isfinite(value) for value in values.values())
    assert found["teacher"]["kl_teacher"] == 0.0


@pytest.mark.parametrize("name", ["flow-table", "flow-table-maf", "flow-hepmass-maf"])
def test_a_reduced_run_of_a_table_of_ones_own(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.random.default_rng(0).normal(size=(400, 3))
    path = tmp_path / "mine.csv"
    np.savetxt(path, rows, delimiter=",", header="height,width,depth", comments="")
    words = [f"--data.path={path}", "--teacher.features=3", "--student.features=3",
             "--teacher_training.batch_size=32", "--training.batch_size=32"]  # fmt: skip
    if "table" not in name:  # the recipe's own data are of another class
        words.insert(0, "--data.class_path=limbeck.data.Tabular")
    words += ["--objective.pool=50", "--student.transforms=2"] if name.endswith("maf") else ["--student.depth=2"]
    status = main(["run", name, "--dry-run", f"--output={tmp_path}", *words])
    assert status == 0, capsys.readouterr().err
    found = record(tmp_path / name / "dry-run")
    assert found["teacher"]["parameters_generative"] > found["ours"]["parameters_generative"]
    assert all(math.isfinite(values["test_log_likelihood"]) for values in found.values())
    page = (tmp_path / name / "dry-run" / "report.html").read_text(encoding="utf-8")
    assert "0.1 % quantile" in page


def test_a_table_of_another_width_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.csv"
    np.savetxt(path, np.random.default_rng(0).normal(size=(400, 3)), delimiter=",")
    assert main(["run", "flow-table", "--dry-run", f"--data.path={path}"]) == 2
    told = capsys.readouterr().err
    assert "rows of 6 numbers, but these have 3" in told
    assert "features" in told


@pytest.mark.parametrize("name", ["glow-digits", "glow-cifar10"])
def test_a_reduced_run_of_images(name: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--teacher.depth=2",
        "--teacher.hidden=4",
        "--student.depth=1",
        "--student.hidden=4",
        "--evaluation.grid=8",
    ]
    if name == "glow-digits":
        assert isinstance(load(find_recipe(name).path)[0].data, Digits)
    else:
        words += [f"--data.path={pictures}", "--data.label_column=null", "--data.size=8", "--teacher.image_size=8",
                  "--student.image_size=8", "--training.batch_size=8", "--teacher_training.batch_size=8"]  # fmt: skip
    status = main(["run", name, "--dry-run", f"--output={tmp_path}", *words])
    assert status == 0, capsys.readouterr().err
    directory = tmp_path / name / "dry-run"
    for method, values in record(directory).items():
        assert {"bits_per_dim", "fid_data", "fid_cool", "fid_interpolated", "fid_interpolated_cool"} <= set(values)
        assert all(math.isfinite(value) for value in values.values()), method
    names = {path.name for path in (directory / "students" / "ours" / "0").iterdir()}
    assert {"samples.png", "samples_cool.png", "interpolations.png"} <= names
    page = (directory / "report.html").read_text(encoding="utf-8")
    assert "Interpolations between test images" in page
    assert "Samples at a lower temperature" in page
    assert "Reconstructions" not in page
