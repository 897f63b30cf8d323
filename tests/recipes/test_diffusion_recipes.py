"""The recipes of diffusion models: Table 3 of [D], sizes of the published networks, and runs in a reduced form."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from limbeck.cli.main import main
from limbeck.cli.recipe_files import find_recipe
from limbeck.core.coupling import SharedNoise
from limbeck.core.divergence import kl, mean_lp
from limbeck.core.trace import Kind
from limbeck.engine import DiffusionEvaluation
from limbeck.models import DDIM
from tests.recipes.test_recipes import load

# [D] Table 3: parameters in millions, batch, learning rate, betas, EMA, warm-up steps, iterations; Sec. 3.1: pairs.
TABLE_3 = {
    "ddim-cifar10": (32, 35.7, 512, 2e-4, (0.9, 0.98), 0.995, 5000, 50_000, 1_024_000),
    "ddim-celeba64": (64, 78.7, 512, 5e-5, (0.9, 0.98), 0.995, 5000, 64_000, 1_024_000),
    "ddim-lsun-bedroom": (256, 113.7, 32, 5e-6, (0.98, 0.999), 0.9995, 1000, 320_000, 204_800),
    "ddim-lsun-church": (256, 113.7, 32, 5e-6, (0.98, 0.999), 0.9995, 1000, 256_000, 204_800),
}
UNET = {"layers_per_block": 1, "block_out_channels": [4, 8], "norm_num_groups": 2, "sample_size": 8,
        "down_block_types": ["DownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "UpBlock2D"]}  # fmt: skip


@pytest.mark.parametrize("name", TABLE_3)
def test_table_3(name: str) -> None:
    pixels, millions, batch, rate, betas, ema, warm_up, steps, pairs = TABLE_3[name]
    recipe, _ = load(find_recipe(name).path)
    teacher, student, training = recipe.teacher, recipe.student, recipe.training
    assert isinstance(teacher, DDIM)
    assert isinstance(student, DDIM)
    for model in (teacher, student):
        assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == millions
        assert model.image_shape == (3, pixels, pixels)
        assert model.schedule.clip is None
        assert (model.schedule.times, model.schedule.prediction) == (1000, "epsilon")
    dropout = [type(model).__name__ for model in student.modules() if isinstance(model, nn.Dropout) and model.p > 0]
    assert dropout == []  # App. B: no dropout
    assert (training.batch_size, training.learning_rate, training.betas) == (batch, rate, betas)
    assert (training.ema, training.steps, training.warm_up * training.steps) == (ema, steps, warm_up)
    assert (training.optimizer, training.schedule, training.weight_decay) == ("adam", "constant", 0.0)
    assert training.gradient_clip is None
    assert training.validate_every is not None
    assert training.validate_on == "pairs"  # early stopping on unseen pairs
    assert recipe.pairs is not None
    assert (recipe.pairs.count, recipe.pairs.dtype) == (pairs, "uint8")
    assert recipe.pairs.held_out >= 1000
    assert recipe.start == "teacher"
    assert isinstance(recipe.evaluation, DiffusionEvaluation)


@pytest.mark.parametrize("name", TABLE_3)
def test_times_and_losses_of_the_paper(name: str) -> None:
    recipe, _ = load(find_recipe(name).path)
    lsun = "lsun" in name
    times = recipe.teacher.timesteps
    if lsun:
        assert times == tuple(range(980, -1, -20))
    else:
        # Squares between 0 and 800, without those that fall on one number.
        assert times == tuple(sorted({math.floor(root**2 + 1e-9) for root in np.linspace(0, 800**0.5, 100)})[::-1])
        assert len(times) == 96
    assert recipe.student.timesteps == (999,)
    assert recipe.student.first == "residual"
    method = recipe.methods["denoising-student"].objective
    assert isinstance(method.coupling, SharedNoise)
    assert [match.kind for match in method.matches] == [Kind.TARGET]
    assert method.matches[0].divergence is (mean_lp if name == "ddim-cifar10" else kl)
    assert not method.needs_data
    assert recipe.teacher_from == (
        {f"ddim-lsun-{x}": f"google/ddpm-ema-{x}-256" for x in ("bedroom", "church")}.get(name)
    )


def test_fashion_mnist() -> None:
    recipe, _ = load(find_recipe("ddim-fashion-mnist").path)
    assert recipe.teacher.image_shape == (1, 28, 28)
    samplers = {method: recipe.student_of(method) for method in recipe.methods if method != "vae"}
    assert {len(model.timesteps) for model in samplers.values()} <= {1, 2, 4}
    assert set(recipe.student.timesteps) == {999}
    for method, model in samplers.items():
        assert set(model.timesteps) <= {999, *recipe.teacher.timesteps}
        assert recipe.start_of(method) == "teacher"
    assert {1, 2} <= set(recipe.evaluation.steps_shown)


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("extractor") / "means.pt"
    torch.jit.save(torch.jit.script(nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())), path)
    return path


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that diffusers saved, and never we."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    path = tmp_path_factory.mktemp("pipeline") / "teacher"
    torch.manual_seed(0)
    DDPMPipeline(UNet2DModel(in_channels=3, out_channels=3, **UNET), DDPMScheduler()).save_pretrained(path)
    return path


def reduced(name: str, path: Path) -> Path:
    """The recipe with tiny networks of tiny images, as a file."""

    def smaller(value: Any) -> Any:
        if isinstance(value, list):
            return [smaller(item) for item in value]
        if not isinstance(value, dict):
            return value
        found = {key: smaller(item) for key, item in value.items()}
        if "unet" in found:
            found["unet"] |= UNET
        if "steps" in found and "unet" in found:
            found["steps"] = min(found["steps"], 4)
        if "image_size" in found:
            found |= {"image_size": 8, "width": 4}
        return found

    recipe = smaller(yaml.safe_load(find_recipe(name).path.read_text(encoding="utf-8")))
    recipe["data"]["init_args"] |= {"size": 8, "center_crop": None}
    recipe["evaluation"]["init_args"] |= {"larger": 12}
    place = path / f"{name}.yaml"
    place.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return place


@pytest.mark.parametrize("name", ["ddim-cifar10", "ddim-lsun-church", "ddim-fashion-mnist"])
def test_a_reduced_run(
    name: str, pictures: Path, extractor: Path, pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--data.path={pictures}", "--training.batch_size=4"]
    if "lsun" in name:
        words += [f"--teacher_from={pipeline}", f"--evaluation.extractor={extractor}"]
    else:
        words.append("--teacher_training.batch_size=4")
    recipe, _ = load(reduced(name, tmp_path))
    status = main(["run", str(reduced(name, tmp_path)), "--dry-run", f"--output={tmp_path}", *words])
    assert status == 0, capsys.readouterr().err
    directory = next(path.parent for path in tmp_path.glob("*/dry-run/metrics.json"))
    found = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    rows = {result["method"]: result["values"] for result in found["results"]}
    assert list(rows) == ["teacher", *found["variants"], *recipe.methods]
    assert found["variants"] == ["teacher, 1 step"]
    for method, values in rows.items():
        assert all(math.isfinite(value) for value in values.values()), method
        assert ("mse_teacher" in values) == (method not in ("teacher", "vae"))
    if "lsun" in name:
        assert rows["teacher"]["network_evaluations"] == 4  # the recipe's times, and not the pipeline's
    assert rows[next(iter(recipe.methods))]["network_evaluations"] == 1
    page = (directory / "report.html").read_text(encoding="utf-8")
    for title in (
        "Beside the teacher",
        "Between two noises",
        "Another size than in training",
        "Nearest training images",
    ):
        assert title in page
    assert "against the number of network evaluations" in page
