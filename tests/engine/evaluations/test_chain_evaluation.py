"""Measuring chains: exact divergences against Monte Carlo, and every number of the table."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from limbeck.core.graph import DGM
from limbeck.engine import ChainEvaluation, Subject
from limbeck.engine.evaluations.chain_evaluation import target_law
from limbeck.engine.stages.progress import Progress
from limbeck.errors import ModelError, RecipeError
from limbeck.metrics import histogram_kl, interval_grid, kl_density_ratio
from limbeck.models import (
    BinomialChain,
    Chain,
    GaussianChain,
    LadderVAE,
    ResidualBinomialChain,
    ResidualGaussianChain,
)

SETTINGS = ChainEvaluation(samples=2000, points=800)


def measured(teacher: DGM, student: DGM, directory: Path, settings: ChainEvaluation = SETTINGS) -> dict[str, float]:
    judge = settings.judge(None, teacher, directory, 0, Progress())
    return judge.measure(Subject(student, directory, False))


@pytest.mark.parametrize("teacher", [GaussianChain(layers=2), BinomialChain(layers=2)])
def test_the_teacher_against_itself(teacher: Chain, tmp_path: Path) -> None:
    values = measured(teacher, teacher, tmp_path)
    assert abs(values["kl"]) < 1e-12
    assert abs(values["kl_ratio"]) < 0.02
    assert values["parameters_generative"] == 0
    with Image.open(tmp_path / "samples.png") as picture:
        assert min(picture.size) > 200


def test_a_gaussian_chain_of_one_layer_in_closed_form(tmp_path: Path) -> None:
    # With exponent 1 and one layer the target is the uniform root plus noise, whatever it is on the grid.
    teacher, other = (GaussianChain(layers=1, exponent=1.0, scale=scale) for scale in (0.1, 0.3))
    grid = interval_grid(-30.0, 30.0, 800)
    y = grid.points[:, 0]

    def law(scale: float) -> torch.Tensor:
        return 0.5 * (torch.special.ndtr((y + 1) / scale) - torch.special.ndtr((y - 1) / scale))

    p, q = law(0.1), law(0.3)
    torch.testing.assert_close(target_law(teacher, grid, 800), p, atol=1e-5, rtol=0)
    exact = float((torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum() * grid.volume)
    assert measured(teacher, other, tmp_path)["kl"] == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        (GaussianChain(layers=3), GaussianChain(layers=3, exponent=1.4, scale=0.15)),
        (BinomialChain(layers=4), BinomialChain(layers=4, exponent=1.35)),
    ],
)
def test_exact_and_estimated_divergences_agree(teacher: Chain, student: Chain, tmp_path: Path) -> None:
    values = measured(teacher, student, tmp_path, ChainEvaluation(samples=6000, points=800))
    assert values["kl"] > 0.05
    assert abs(values["kl_ratio"] - values["kl"]) < 3 * values["kl_ratio_error"] + 0.15 * values["kl"]
    generator = torch.Generator().manual_seed(3)
    drawn = [model.sample(20000, generator=generator)["y"] for model in (teacher, student)]
    histogram = histogram_kl(*drawn)
    assert abs(histogram.value - values["kl"]) < 3 * histogram.error + 0.05 * values["kl"]
    for method in ("kliep", "ulsif"):
        found = kl_density_ratio(*(samples[:4000] for samples in drawn), method=method)
        assert 0.6 * values["kl"] < found.value < values["kl"] + 3 * found.error


def test_the_grid_is_fine_enough(tmp_path: Path) -> None:
    teacher = GaussianChain(layers=5)
    torch.manual_seed(0)
    student = ResidualGaussianChain(layers=5)
    with torch.no_grad():
        student.raw_scale.fill_(-2.0)
    coarse = measured(teacher, student, tmp_path, ChainEvaluation(samples=100, points=700))["kl"]
    fine = measured(teacher, student, tmp_path, ChainEvaluation(samples=100, points=1400))["kl"]
    assert coarse == pytest.approx(fine, rel=1e-3)
    assert fine > 0.01


def test_narrow_layers_refine_the_grid(tmp_path: Path) -> None:
    teacher, student = GaussianChain(layers=2), GaussianChain(layers=2, scale=0.04)
    coarse = measured(teacher, student, tmp_path, ChainEvaluation(samples=100, points=700))["kl"]
    fine = measured(teacher, student, tmp_path, ChainEvaluation(samples=100, points=2100))["kl"]
    assert coarse == pytest.approx(fine, rel=2e-3)
    with pytest.raises(ModelError, match=r"scale 0.002, too narrow .* raise evaluation\.points"):
        measured(teacher, GaussianChain(layers=2, scale=0.002), tmp_path, ChainEvaluation(samples=100, points=700))


def test_every_measure_has_a_value(tmp_path: Path) -> None:
    values = measured(BinomialChain(layers=2), ResidualBinomialChain(layers=2), tmp_path)
    keys = [measure.key for measure in SETTINGS.measures(None)]
    assert set(keys) - set(values) == {"train_seconds"}  # which the experiment adds
    assert all(math.isfinite(value) for value in values.values())
    assert values["parameters_generative"] == 14


def test_the_table_changes_with_the_teacher(tmp_path: Path) -> None:
    keys = {
        SETTINGS.judge(None, teacher, tmp_path, 0, Progress()).reference_key
        for teacher in (GaussianChain(layers=1), GaussianChain(layers=2), GaussianChain(layers=2, exponent=1.2))
    }
    assert len(keys) == 3


def test_what_it_cannot_measure(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="LadderVAE"):
        SETTINGS.judge(None, LadderVAE(image_size=8, levels=2, width=2), tmp_path, 0, Progress())
    with pytest.raises(ModelError, match="not a chain of real numbers"):
        measured(GaussianChain(layers=1), ResidualBinomialChain(layers=1), tmp_path)
    with pytest.raises(RecipeError, match="at least 100"):
        ChainEvaluation(samples=10)


def test_dry() -> None:
    dry = ChainEvaluation().dry()
    assert dry.samples <= 200
    assert dry.points <= 800
