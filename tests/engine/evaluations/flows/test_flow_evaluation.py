"""Measuring flows of tables: every number against what is known of Gaussians, and rows that are not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from limbeck.core.graph import DGM
from limbeck.data import Digits
from limbeck.data.tables.table import TableDataset, TableSplit
from limbeck.engine import FlowTableEvaluation, Subject
from limbeck.engine.evaluations.flows.flow_rows import drawn_rows, log_densities
from limbeck.engine.stages.progress import Progress
from limbeck.errors import ModelError, RecipeError
from limbeck.metrics import Measure, ModelResult, RunResults
from limbeck.models.flows.bijection import Bijection, Level
from limbeck.models.flows.flow import Flow
from limbeck.report.run_tables import gaps, main_measure, results_table, seeds_table, size_table
from tests.tiny import Tiny

SETTINGS = FlowTableEvaluation(samples=4000, drawn=500, batch=64, timing=0.02)


class Shift(Bijection):
    """Moves rows; beyond a limit it returns what a flow that diverged returns."""

    def __init__(self, shift: float, features: int, limit: float) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.full((features,), shift))
        self.limit = limit

    def forward(self, h: Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        moved = h - self.shift
        return moved.masked_fill(h[:, :1] > self.limit, math.nan), moved.new_zeros(())

    def inverse(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        moved = h + self.shift
        return moved.masked_fill(moved[:, :1] > self.limit, math.inf)


class Gaussian(Flow):
    """A unit Gaussian around a point: everything is known of it."""

    def __init__(self, shift: float = 0.0, features: int = 2, limit: float = math.inf) -> None:
        super().__init__()
        self.features = features
        self._level = Level([Shift(shift, features, limit)])

    @property
    def levels(self) -> Sequence[Level]:
        return [self._level]

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.features,),)


def table(rows: int = 3000, features: int = 2) -> TableDataset:
    values = torch.randn(3, rows, features, generator=torch.Generator().manual_seed(0))
    return TableDataset("points", *map(TableSplit, values), columns=tuple(f"c{i}" for i in range(features)))


def measured(model: DGM, folder: Path, dataset: TableDataset | None, teacher: DGM | None = None) -> dict[str, float]:
    judge = SETTINGS.judge(dataset, teacher or Gaussian(), folder, 0, Progress())
    values = judge.measure(Subject(model.eval(), folder, infers=True))
    keys = {measure.key for measure in SETTINGS.measures(dataset)}
    assert set(values) == keys - {"train_seconds", "steps_taken", "best_step"}  # the engine knows that one
    return values


def test_likelihood_and_divergence_of_gaussians(tmp_path: Path) -> None:
    dataset = table()
    values = measured(Gaussian(0.5), tmp_path, dataset)
    rows = torch.distributions.Normal(0.5, 1.0).log_prob(dataset.test.values.double()).sum(1)
    assert values["test_log_likelihood"] == pytest.approx(float(rows.mean()), abs=1e-5)
    assert values["test_log_likelihood_error"] == pytest.approx(float(rows.std()) / math.sqrt(3000), abs=1e-6)
    ordered = rows.sort().values
    assert values["test_median"] == pytest.approx(float(ordered[1499]), abs=1e-5)
    assert values["test_quantile_0.01"] == pytest.approx(float(ordered[29]), abs=1e-5)
    assert values["test_quantile_0.001"] == pytest.approx(float(ordered[2]), abs=1e-5)
    # KL of unit Gaussians is half the squared distance of their means; within four standard errors of the estimate.
    exact, error = 0.5 * 2 * 0.5**2, values["kl_teacher_error"]
    assert abs(values["kl_teacher"] - exact) < 4 * error
    assert error == pytest.approx(math.sqrt(2 * 0.5**2 / 4000), rel=0.1)  # the ratio is normal with this deviation
    assert abs(values["kl_teacher_median"] - exact) < 8 * error
    assert values["energy_data"] > 0.1
    assert (values["test_not_finite"], values["kl_teacher_not_finite"], values["samples_not_finite"]) == (0, 0, 0)
    assert values["parameters_generative"] == 2
    assert min(values["density_milliseconds"], values["sampling_milliseconds"]) > 0
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.width > picture.height > 100


def test_the_teacher_itself_has_no_divergence_and_the_energy_distance_of_chance(tmp_path: Path) -> None:
    values = measured(Gaussian(), tmp_path, table())
    assert (values["kl_teacher"], values["kl_teacher_error"], values["kl_teacher_median"]) == (0, 0, 0)
    assert abs(values["energy_data"]) < 0.02


def test_rows_that_are_not_finite_are_counted_and_poison_nothing(tmp_path: Path) -> None:
    dataset, limit = table(), 1.5
    beyond = dataset.test.values[:, 0] > limit
    values = measured(Gaussian(limit=limit), tmp_path, dataset)
    assert 0 < int(beyond.sum()) == values["test_not_finite"] < 400
    whole = measured(Gaussian(), tmp_path, dataset)
    rows = log_densities(Gaussian(), dataset.test.values)
    assert values["test_log_likelihood"] == pytest.approx(float(rows[~beyond].mean()))
    assert values["test_quantile_0.001"] == -math.inf  # the worst 1 in 1000 are among them
    assert values["test_median"] == whole["test_median"]  # what lies so far out was in the worse half anyway
    share = 100 * (1 - torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(limit)).item())
    assert values["kl_teacher_not_finite"] == pytest.approx(share, abs=1.5)
    assert values["samples_not_finite"] == pytest.approx(share, abs=4)
    assert values["kl_teacher"] == 0.0
    assert math.isfinite(values["energy_data"])
    broken = measured(Gaussian(limit=-math.inf), tmp_path, dataset)
    assert broken["test_not_finite"] == 3000
    assert (broken["samples_not_finite"], math.isnan(broken["energy_data"])) == (100, True)
    assert math.isnan(broken["test_log_likelihood"])
    assert (broken["kl_teacher_median"], broken["kl_teacher_not_finite"]) == (math.inf, 100)


def test_columns_of_any_scale_count_alike_in_the_energy_distance(tmp_path: Path) -> None:
    plain, wide = table(), table()
    for split in wide.splits.values():
        split.values[:, 1] *= 1000.0  # type: ignore[attr-defined]
    judges = [SETTINGS.judge(one, Gaussian(), tmp_path, 0, Progress()) for one in (plain, wide)]
    first, second = (next(iter(judge.references.values())) for judge in judges)
    assert first == pytest.approx(second, rel=1e-4)


def test_references_without_any_model(tmp_path: Path) -> None:
    dataset = table()
    judge = SETTINGS.judge(dataset, Gaussian(), tmp_path, 0, Progress())
    real, gaussian = judge.references.values()
    assert abs(real) < 0.02
    entropy = math.log(2 * math.pi * math.e)
    assert gaussian == pytest.approx(-entropy, abs=0.1)
    constant = table()
    for split in constant.splits.values():
        split.values[:, 1] = 2.0  # type: ignore[attr-defined]
    found = SETTINGS.judge(constant, Gaussian(), tmp_path, 0, Progress())
    assert len(found.references) == 1  # no Gaussian with a column that never changes
    assert all(math.isfinite(value) for value in found.references.values())


def test_many_rows_at_once_are_those_of_one_pass(tmp_path: Path) -> None:
    rows = torch.randn(10_000, 2)
    torch.testing.assert_close(log_densities(Gaussian(0.3), rows).float(), Gaussian(0.3).log_prob(rows).detach())
    drawn = drawn_rows(Gaussian(), 9000, seed=1)
    assert drawn.shape == (9000, 2)
    assert torch.equal(drawn, drawn_rows(Gaussian(), 9000, seed=1))
    assert not torch.equal(drawn, drawn_rows(Gaussian(), 9000, seed=2))
    assert drawn_rows(Gaussian(), 9000, seed=1, temperature=0.5).std() == pytest.approx(float(drawn.std()) / 2)


def test_without_data(tmp_path: Path) -> None:
    values = measured(Gaussian(1.0), tmp_path, None)
    assert "test_log_likelihood" not in values
    assert values["kl_teacher"] == pytest.approx(1.0, abs=0.1)


def test_the_report_shows_the_gap_and_the_cost_apart(tmp_path: Path) -> None:
    dataset = table()
    models = {"teacher": Gaussian(), "scratch": Gaussian(1.0), "ilkd": Gaussian(math.sqrt(0.5))}
    results = [ModelResult(name, 0, name, measured(model, tmp_path, dataset)) for name, model in models.items()]
    run = RunResults("flow", "run", "", "", "", SETTINGS.measures(dataset), results)
    assert main_measure(run) == Measure("test_log_likelihood", "test log-likelihood", "higher", 3, "nats")
    found = gaps(run)
    assert found is not None
    assert found[1]["ilkd"] == [pytest.approx(0.5, abs=0.05)]  # half of the KL to the teacher, which models the data
    labels = [column.label for column in results_table([run]).columns]
    assert "its standard error over rows (nats)" in [column.label for column in seeds_table(run).columns]
    assert not any("error" in label or "step" in label for label in labels)
    assert labels[-1] == "Gap closed, test log-likelihood"
    assert not any("ms" in label for label in labels)
    sizes = size_table([run])
    assert sizes is not None
    assert {"density of 64 rows (ms)", "sampling of 64 rows (ms)"} <= {column.label for column in sizes.columns}


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="samples"):
        FlowTableEvaluation(samples=1)
    with pytest.raises(RecipeError, match="timing"):
        FlowTableEvaluation(timing=0.0)
    with pytest.raises(RecipeError, match="not inf"):
        FlowTableEvaluation(timing=math.inf)
    with pytest.raises(RecipeError, match="'digits' is a ImageDataset"):
        SETTINGS.judge(Digits().load(), Gaussian(), tmp_path, 0, Progress())
    with pytest.raises(ModelError, match="Tiny has no exact density"):
        log_densities(Tiny(), torch.zeros(2, 2))
    with pytest.raises(ModelError, match="Gaussian is for rows of 2 numbers, but these have 3"):
        log_densities(Gaussian(features=2), torch.zeros(4, 3))


def test_a_dry_run_measures_the_same_on_fewer_samples() -> None:
    dry = SETTINGS.dry()
    assert (dry.samples, dry.drawn, dry.batch) == (200, 200, 64)
    dataset = table()
    assert [m.key for m in dry.measures(dataset)] == [m.key for m in SETTINGS.measures(dataset)]
