"""Measuring flows of images: bits, images between images, and what happens to images that are not finite."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from limbeck.core.loss import Batch
from limbeck.data import Digits, ImageDataset
from limbeck.engine import FlowImageEvaluation, Judge, Subject
from limbeck.engine.evaluations.flows.flow_pictures import interpolations
from limbeck.engine.stages.progress import Progress
from limbeck.errors import ModelError, RecipeError
from limbeck.metrics import bits_per_dimension
from limbeck.models import Glow
from tests.tiny import Tiny


@pytest.fixture(scope="module")
def digits() -> ImageDataset:
    return Digits(limit=120).load()


@pytest.fixture(scope="module")
def glow(digits: ImageDataset) -> Glow:
    torch.manual_seed(0)
    model = Glow(8, channels=1, levels=2, depth=2, hidden=4, quantization=17)
    model.adapt(Batch(digits.train.images))
    for parameter in model.parameters():  # fresh steps are nearly linear
        parameter.data += 0.02 * torch.randn_like(parameter)
    return model.eval()


SETTINGS = FlowImageEvaluation(samples=150, extractor_steps=30, temperature=0.5, interpolated=110, grid=16)


@pytest.fixture(scope="module")
def judge(glow: Glow, digits: ImageDataset, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    return SETTINGS.judge(digits, glow, tmp_path_factory.mktemp("cache"), 0, Progress())


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def test_every_measure_and_picture(judge: Judge, glow: Glow, digits: ImageDataset, tmp_path: Path) -> None:
    values = judge.measure(Subject(glow, tmp_path, infers=True))
    assert set(values) == {measure.key for measure in SETTINGS.measures(digits)} - {
        "train_seconds",
        "steps_taken",
        "best_step",
    }
    assert all(math.isfinite(value) for value in values.values())
    assert (values["test_not_finite"], values["samples_not_finite"]) == (0, 0)
    assert values["parameters_generative"] == sum(parameter.numel() for parameter in glow.parameters())
    assert values["fid_teacher"] < values["fid_data"]  # a model is its own teacher here
    # Between test images one is nearer to them than anywhere, as long as the latents keep their size.
    assert values["fid_interpolated"] < min(values["fid_data"], values["fid_interpolated_cool"])
    assert judge.measure(Subject(glow, tmp_path, infers=True)) | {"samples_per_second": 0.0} == values | {
        "samples_per_second": 0.0
    }
    assert (picture(tmp_path / "samples.png") != picture(tmp_path / "samples_cool.png")).any()
    assert picture(tmp_path / "interpolations.png").shape == picture(tmp_path / "samples.png").shape  # 16 images each
    assert {path.name for path in tmp_path.iterdir()} == {"samples.png", *(kind.file for kind in SETTINGS.pictures)}


def test_bits_are_the_models_own(judge: Judge, glow: Glow, digits: ImageDataset, tmp_path: Path) -> None:
    images = digits.test.images
    with torch.no_grad():
        y = glow.observed(images, torch.Generator().manual_seed(1))
        own = glow.bits_per_dim(images, torch.Generator().manual_seed(1))
        torch.testing.assert_close(bits_per_dimension(glow.log_prob(y), 64, 17), own)
    values = judge.measure(Subject(glow, tmp_path, infers=True))
    assert values["bits_per_dim"] == pytest.approx(float(own.mean()), abs=0.05)  # another draw of the noise
    assert values["bits_per_dim_error"] == pytest.approx(float(own.std()) / math.sqrt(len(own)), rel=0.1)


def test_both_ends_of_an_interpolation_are_the_images(glow: Glow, digits: ImageDataset) -> None:
    u, v = digits.test.images[:5], digits.test.images[5:10]
    for alpha, end in ((0.0, u), (1.0, v)):
        found = interpolations(glow, u, v, torch.full((5,), alpha), generator=torch.Generator().manual_seed(0))
        # The noise of dequantisation is still there, and rounding takes it away.
        torch.testing.assert_close((found * 17).floor() / 16, end, atol=1e-4, rtol=0)


def norms(model: Glow, y: Tensor) -> Tensor:
    return torch.cat([latent.flatten(1) for latent in model.encode(y)], dim=1).norm(dim=1)


def test_norm_of_what_is_decoded_is_that_of_the_ends_times_the_temperature(glow: Glow, digits: ImageDataset) -> None:
    smooth = Glow(8, channels=1, levels=2, depth=2, hidden=4, quantization=None).eval()  # no noise in between
    smooth.load_state_dict(glow.state_dict())
    u, v, alpha = digits.test.images[:6], digits.test.images[6:12], torch.linspace(0, 1, 6)
    with torch.no_grad():
        wanted = (1 - alpha) * norms(smooth, u) + alpha * norms(smooth, v)
        for temperature in (1.0, 0.5):
            found = norms(smooth, interpolations(smooth, u, v, alpha, temperature))
            torch.testing.assert_close(found, temperature * wanted, rtol=1e-4, atol=1e-4)


def test_a_model_that_broke_is_measured_and_told(
    judge: Judge, glow: Glow, digits: ImageDataset, tmp_path: Path
) -> None:
    broken = Glow(**glow.config).eval()
    broken.load_state_dict(
        {name: value * math.nan for name, value in glow.state_dict().items() if value.is_floating_point()}, strict=False
    )
    values = judge.measure(Subject(broken, tmp_path, infers=True))
    assert (values["test_not_finite"], values["samples_not_finite"]) == (len(digits.test), 100)
    assert math.isnan(values["bits_per_dim"])
    sound = judge.measure(Subject(glow, tmp_path, infers=True))
    assert sound["fid_data"] < values["fid_data"] < math.inf  # the distance of black images
    assert values["fid_data"] == values["fid_cool"]


def test_what_is_refused(digits: ImageDataset, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"evaluation\.temperature .* not 1\.0"):
        FlowImageEvaluation(temperature=1.0)
    with pytest.raises(RecipeError, match="interpolated"):
        FlowImageEvaluation(interpolated=1)
    with pytest.raises(RecipeError, match="images or their labels"):
        SETTINGS.judge(None, Tiny(), tmp_path, 0, Progress())
    with pytest.raises(ModelError, match="Tiny is no limbeck flow"):
        FlowImageEvaluation(extractor_steps=1).judge(digits, Tiny(), tmp_path, 0, Progress())


def test_a_dry_run_measures_the_same(digits: ImageDataset) -> None:
    assert [m.key for m in SETTINGS.dry().measures(digits)] == [m.key for m in SETTINGS.measures(digits)]
    assert SETTINGS.dry().temperature == SETTINGS.temperature
