"""Measuring models of known density: every number of the table against what it should be, and the picture."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from limbeck.core.graph import DGM
from limbeck.data import Digits, Faithful
from limbeck.engine import DensityEvaluation, Subject
from limbeck.engine.evaluations.density_evaluation import draw_points
from limbeck.engine.stages.progress import Progress
from limbeck.errors import ModelError, RecipeError
from limbeck.models import HelmholtzMachine

SETTINGS = DensityEvaluation(samples=600, plotted=60, steps_per_axis=61)


class Cloud(DGM):
    """Two independent Gaussians: everything is known of it."""

    def __init__(self, mean: float = 0.0) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor([mean, 0.0]))
        self.target_names = ("y1", "y2")

    def generate(self, sites, x=None) -> None:
        for i, name in enumerate(self.target_names):
            sites.target(
                name, Independent(Normal(self.mean[i].expand(sites.batch_size, 1), 1.0, validate_args=False), 1)
            )

    def log_likelihood(self, y: Tensor) -> Tensor:
        return Normal(self.mean.double(), 1.0).log_prob(y.double()).sum(1)


class Unknown(DGM):
    """A model whose density nobody has written down."""

    def generate(self, sites, x=None) -> None:
        sites.target("y", sites.standard_normal(2))


def measured(student: DGM, directory: Path, data: object = None, seed: int = 0) -> dict[str, float]:
    dataset = None if data is None else data.load()
    judge = SETTINGS.judge(dataset, Cloud(), directory, seed, Progress())
    values = judge.measure(Subject(student, directory, False))
    keys = {measure.key for measure in SETTINGS.measures(dataset)}
    assert set(values) == keys - {"train_seconds"}  # the engine knows that one
    return values


def test_divergence_and_distances_of_gaussians(tmp_path: Path) -> None:
    values = measured(Cloud(1.5), tmp_path)
    assert values["kl_teacher"] == pytest.approx(0.5 * 1.5**2, rel=1e-6)
    assert values["failed"] == 1.0
    # E|A - B| of Gaussians in the plane by sampling: far from 0 here, and 0 for the teacher itself.
    assert values["energy_teacher"] > 0.5
    assert values["mmd_teacher"] > 0.1
    assert values["parameters_generative"] == 2
    same = measured(Cloud(), tmp_path)
    assert same["kl_teacher"] == 0.0
    assert same["failed"] == 0.0
    assert abs(same["energy_teacher"]) < 0.02
    assert abs(same["mmd_teacher"]) < 0.01


def test_a_run_has_failed_above_the_limit_only(tmp_path: Path) -> None:
    for mean, failed in ((0.44, 0.0), (0.46, 1.0)):  # 0.5 * 0.447 ** 2 = 0.1
        assert measured(Cloud(mean), tmp_path)["failed"] == failed


def test_likelihood_is_the_mean_over_the_rows(tmp_path: Path) -> None:
    values = measured(Cloud(0.5), tmp_path, Faithful(test=0.25))
    dataset = Faithful(test=0.25).load()
    for key, rows in (("log_likelihood", dataset.train.values), ("held_out", dataset.test.values)):
        expected = -math.log(2 * math.pi) - 0.5 * ((rows - torch.tensor([0.5, 0.0])) ** 2).sum(1).mean()
        assert values[key] == pytest.approx(float(expected), rel=1e-5)
    assert values["energy_data"] > 0.05
    assert "held_out" not in measured(Cloud(0.5), tmp_path, Faithful())


def test_pictures_are_on_the_same_axes_and_show_the_model(tmp_path: Path) -> None:
    pictures = []
    for name, model in (("a", Cloud(-1.0)), ("b", Cloud(1.0))):
        (tmp_path / name).mkdir()
        measured(model, tmp_path / name)
        pictures.append(np.asarray(Image.open(tmp_path / name / "samples.png").convert("L"), dtype=float))
    assert pictures[0].shape == pictures[1].shape
    canvas = [picture[30:280, 60:310] for picture in pictures]  # without the axes
    centres = [(part.sum(0) * np.arange(part.shape[1])).sum() / part.sum() for part in canvas]
    assert centres[1] > centres[0] + 5


def test_points_without_a_density_estimate_have_a_picture() -> None:
    """A model whose training went astray draws points that differ by less than their rounding."""
    judge = SETTINGS.judge(Faithful().load(), Cloud(), Path(), 0, Progress())
    (axes,) = judge._drawn(torch.zeros(60, 2)).axes
    assert not axes.images
    assert judge._drawn(torch.randn(60, 2)).axes[0].images


def test_one_seed_fixes_every_number_but_the_speed(tmp_path: Path) -> None:
    first, again, other = (measured(Cloud(0.3), tmp_path, Faithful(), seed) for seed in (0, 0, 1))
    for values in (first, again, other):
        del values["samples_per_second"]
    assert first == again
    assert first["energy_data"] != other["energy_data"]


def test_notes_say_how_good_the_quadrature_is() -> None:
    judge = SETTINGS.judge(Faithful().load(), HelmholtzMachine(hidden=2), Path(), 0, Progress())
    text = " ".join(judge.notes)
    assert "61 by 61 points" in text
    assert abs(judge._mass() - 1.0) < 1e-5
    assert "two random halves of the 272 training rows" in text
    assert 0.0 < judge._chance() < 0.1


def test_draws_have_a_column_a_target() -> None:
    points = draw_points(HelmholtzMachine(), 7, 0)
    assert points.shape == (7, 2)
    assert torch.equal(points, draw_points(HelmholtzMachine(), 7, 0)) is False  # another machine
    machine = HelmholtzMachine()
    assert torch.equal(draw_points(machine, 7, 0), draw_points(machine, 7, 0))


def test_models_and_data_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="tables of two columns"):
        SETTINGS.judge(Digits(limit=20).load(), Cloud(), tmp_path, 0, Progress())
    with pytest.raises(ModelError, match="Unknown has no exact density; define log_likelihood"):
        SETTINGS.judge(None, Unknown(), tmp_path, 0, Progress())
    broken = Cloud()
    with torch.no_grad():
        broken.mean.fill_(math.nan)
    with pytest.raises(ModelError, match="NaN or infinite"):
        draw_points(broken, 5, 0)
    with pytest.raises(RecipeError, match=r"failure is a divergence in nats, at least 0, not -0\.1"):
        DensityEvaluation(failure=-0.1)
    with pytest.raises(RecipeError, match="at least 3"):
        DensityEvaluation(samples=1)


def test_a_dry_run_is_smaller() -> None:
    dry = DensityEvaluation(failure=0.3).dry()
    assert (dry.samples, dry.plotted, dry.failure) == (200, 100, 0.3)
    assert dry.steps_per_axis < DensityEvaluation().steps_per_axis
