"""Measuring flows of tables: exact likelihood with its tails, exact divergence from the teacher, samples, cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.coupling.sifting import sifted_samples
from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.data import Dataset, TableDataset
from limbeck.engine.evaluations.evaluation import (
    PARAMETERS,
    TRAIN_SECONDS,
    Evaluation,
    Judge,
    Subject,
    parameter_counts,
)
from limbeck.engine.evaluations.flows.flow_figure import LEVELS, likelihood_figure
from limbeck.engine.evaluations.flows.flow_rows import Invertible, drawn_rows, exact_density, log_densities
from limbeck.engine.settings.checks import check_whole
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed
from limbeck.errors import RecipeError
from limbeck.metrics import Measure, energy_distance, summarize_rows, throughput
from limbeck.pictures import save_figure

__all__ = ["EARLY_STOPPING", "FlowTableEvaluation"]

EARLY_STOPPING = [
    Measure("steps_taken", "steps taken", "neither", 0, detail=True),
    Measure("best_step", "step of the weights kept", "neither", 0, detail=True),
]
"""Measured by trainings that may stop early."""


class FlowTableEvaluation(Evaluation):
    """Exact test log-likelihood and KL from the teacher, both with errors and tails; distance of samples; cost.

    Means leave out rows whose log density is not finite, which are counted in columns of their own; medians and
    quantiles treat them as the worst rows.

    Args:
        samples: the teacher's samples on which the divergence from it is measured.
        drawn: samples of each model, and test rows, in the energy distance; its cost grows with their square.
        batch: rows per batch where density and sampling are timed.
        timing: seconds for which each of these two times is measured, at least.
        trim: share of the teacher's samples that is left out of the divergence, those that the teacher finds least
            likely: a single sample far from all data, where the inverse of a flow overflows, would dominate the mean.
            See :func:`limbeck.core.coupling.sifting.sifted_samples`.
        worst: share of the rows that the trimmed means leave out: each model's own worst rows.

    Raises:
        RecipeError: a number is too small.
    """

    def __init__(
        self,
        samples: int = 10_000,
        drawn: int = 2000,
        batch: int = 1024,
        timing: float = 0.5,
        trim: float = 0.002,
        worst: float = 0.001,
    ) -> None:
        if not (0.0 <= trim < 1.0 and 0.0 <= worst < 1.0):
            raise RecipeError(f"evaluation: trim ({trim}) and worst ({worst}) are shares of the rows, in [0, 1)")
        check_whole(2, "evaluation.", samples=samples, drawn=drawn)
        check_whole(1, "evaluation.", batch=batch)
        if not 0 < timing < math.inf:
            raise RecipeError(f"evaluation.timing must be a positive number of seconds, not {timing}")
        self.samples = samples
        self.drawn = drawn
        self.batch = batch
        self.timing = timing
        self.trim = trim
        self.worst = worst

    @override
    def measures(self, dataset: Dataset | None) -> list[Measure]:
        on_data = [
            Measure("test_log_likelihood", "test log-likelihood", "higher", 3, "nats"),
            Measure("test_log_likelihood_error", "its standard error over rows", "neither", 3, "nats", detail=True),
            Measure("test_trimmed", f"without its worst {100 * self.worst:g} %", "higher", 3, "nats"),
            Measure("test_median", "median", "higher", 3, "nats"),
            *(Measure(f"test_quantile_{q:g}", f"{100 * q:g} % quantile", "higher", 2, "nats") for q in LEVELS),
            Measure("test_not_finite", "rows not finite", "lower", 0),
            Measure("energy_data", "energy distance to test data", "lower", 4),
        ]
        return [
            *(on_data if dataset is not None else []),
            Measure("kl_teacher", "KL(teacher || model)", "lower", 3, "nats"),
            Measure("kl_teacher_error", "its standard error", "neither", 3, "nats", detail=True),
            Measure("kl_teacher_trimmed", f"without its worst {100 * self.worst:g} %", "lower", 3, "nats"),
            Measure("kl_teacher_median", "median of log teacher - log model", "lower", 3, "nats"),
            Measure("kl_teacher_not_finite", "teacher's samples not finite", "lower", 2, "%", detail=True),
            Measure("samples_not_finite", "own samples not finite", "lower", 2, "%", detail=True),
            PARAMETERS,
            Measure("density_milliseconds", f"density of {self.batch:,} rows", "lower", 2, "ms", kind="cost"),
            Measure("sampling_milliseconds", f"sampling of {self.batch:,} rows", "lower", 2, "ms", kind="cost"),
            TRAIN_SECONDS,
            *EARLY_STOPPING,
        ]

    @override
    def judge(
        self, dataset: Dataset | None, teacher: DGM, cache: Path, seed: int, progress: Progress
    ) -> FlowTableJudge:
        """See :class:`Evaluation`.

        Raises:
            RecipeError: the data are no table.
        """
        if dataset is not None and not isinstance(dataset, TableDataset):
            found = f"{dataset.name!r} is a {type(dataset).__name__}"
            raise RecipeError(f"FlowTableEvaluation is for tables, but {found}; give the recipe a table, or none")
        return FlowTableJudge(self, dataset, teacher, seed)

    @override
    def dry(self) -> Self:
        return self._with(
            samples=min(200, self.samples), drawn=min(200, self.drawn), batch=min(64, self.batch), timing=0.01
        )


class FlowTableJudge(Judge):
    """See :class:`FlowTableEvaluation`."""

    def __init__(self, settings: FlowTableEvaluation, dataset: TableDataset | None, teacher: DGM, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.reference_key = model_key(teacher)
        self.teacher_rows = _teacher_rows(teacher, settings, derive_seed(seed, "teacher samples"))
        self.teacher_density = log_densities(teacher, self.teacher_rows)
        self.references: dict[str, float] = {}
        self.test: Tensor | None = None
        self.notes = [
            f"KL(teacher || model) is the mean of log teacher - log model, both exact, over {len(self.teacher_rows):,} "
            f"samples of the teacher, the same for every model. Of {settings.samples:,} that were drawn, those that do "
            f"not return to their latents and the {100 * settings.trim:g} % least likely are left out.",
            "Rows whose log density is NaN or infinite are counted in columns of their own; means leave them out, "
            "medians and quantiles treat them as the worst rows.",
        ]
        if dataset is not None:
            self._refer_to(dataset, teacher)

    @override
    def measure(self, subject: Subject) -> dict[str, float]:
        model, settings = subject.model, self.settings
        values = self._on_data(subject) if self.test is not None else {}
        ratio = summarize_rows(
            self.teacher_density - log_densities(model, self.teacher_rows), worst=math.inf, trim=settings.worst
        )
        values["kl_teacher"] = ratio.mean
        values["kl_teacher_trimmed"] = ratio.trimmed_mean
        values["kl_teacher_error"] = ratio.standard_error
        values["kl_teacher_median"] = ratio.median
        values["kl_teacher_not_finite"] = 100 * ratio.not_finite / ratio.count
        drawn = drawn_rows(model, settings.drawn, derive_seed(self.seed, "samples"))
        kept = drawn[drawn.isfinite().all(1)]
        values["samples_not_finite"] = 100 * (1 - len(kept) / len(drawn))
        if self.test is not None:
            apart = energy_distance(kept / self.scale, self.compared / self.scale) if len(kept) > 1 else math.nan
            values["energy_data"] = apart
        values |= parameter_counts(model)
        rows = self.teacher_rows[torch.arange(settings.batch) % len(self.teacher_rows)].to(first_parameter(model).dtype)
        values["density_milliseconds"] = self._milliseconds(lambda count: exact_density(model).log_prob(rows[:count]))
        values["sampling_milliseconds"] = self._milliseconds(model.sample)
        return values

    def _refer_to(self, dataset: TableDataset, teacher: DGM) -> None:
        """Keep what all models are compared with on data, and measure what needs no model."""
        settings, train = self.settings, dataset.train.values
        self.test = dataset.test.values
        self.teacher_test_density = log_densities(teacher, self.test)
        self.compared = self.test[: settings.drawn]
        deviation = train.std(0, correction=0)
        self.scale = torch.where(deviation > 0, deviation, 1.0)
        if min(len(train), len(self.compared)) > 1:
            real = energy_distance(train[: settings.drawn] / self.scale, self.compared / self.scale)
            self.references["training rows: energy distance to test data"] = real
        gaussian = _gaussian(train)
        if gaussian is not None:
            fitted = float(gaussian.log_prob(self.test.double()).mean())  # type: ignore[no-untyped-call]
            self.references["one Gaussian: test log-likelihood"] = fitted
        self.notes += [
            f"Log-likelihoods are in nats, densities of the rows as {dataset.name} provides them: {len(self.test):,} "
            f"test rows of {len(dataset.columns)} columns. 0.1 % of them are {len(self.test) / 1000:.1f} rows.",
            f"The energy distance is between {settings.drawn:,} samples and as many test rows at most, each column in "
            "units of its deviation among the training rows; it is unbiased, so it can be negative. The one Gaussian "
            "has the mean and the covariance of the training rows.",
            "Pictures: quantiles of the test log-likelihood, from the worst row on the left (teacher grey, model "
            "blue), and the teacher's log density minus the model's of every test row, in ascending order.",
        ]

    def _on_data(self, subject: Subject) -> dict[str, float]:
        assert self.test is not None
        found = log_densities(subject.model, self.test)
        rows = summarize_rows(found, LEVELS, trim=self.settings.worst)
        save_figure(likelihood_figure(self.teacher_test_density, found), subject.directory / "samples.png")
        return {
            "test_log_likelihood": rows.mean,
            "test_log_likelihood_error": rows.standard_error,
            "test_trimmed": rows.trimmed_mean,
            "test_median": rows.median,
            **{f"test_quantile_{level:g}": value for level, value in rows.quantiles.items()},
            "test_not_finite": float(rows.not_finite),
        }

    def _milliseconds(self, call: Callable[[int], object]) -> float:
        return 1000 * self.settings.batch / throughput(call, self.settings.batch, seconds=self.settings.timing)


def _teacher_rows(teacher: DGM, settings: FlowTableEvaluation, seed: int) -> Tensor:
    if not isinstance(teacher, Invertible):
        return drawn_rows(teacher, settings.samples, seed)
    return sifted_samples(teacher, settings.samples, settings.trim, torch.Generator().manual_seed(seed))


def _gaussian(rows: Tensor) -> torch.distributions.MultivariateNormal | None:
    """One Gaussian with the mean and covariance of rows; ``None`` if that is singular."""
    rows = rows.double()
    factor, failed = torch.linalg.cholesky_ex(rows.T.cov(correction=0).view(rows.shape[1], rows.shape[1]))
    if bool(failed):
        return None
    return torch.distributions.MultivariateNormal(rows.mean(0), scale_tril=factor, validate_args=False)
