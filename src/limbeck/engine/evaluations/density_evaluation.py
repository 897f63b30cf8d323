"""Measuring models of two real numbers whose density is known: exact likelihood and divergence, samples, a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.data import Dataset, TableDataset
from limbeck.engine.evaluations.evaluation import (
    INFERENCE_PARAMETERS,
    PARAMETERS,
    TRAIN_SECONDS,
    Evaluation,
    Judge,
    Subject,
    parameter_counts,
    throughput_measure,
)
from limbeck.engine.settings.checks import check_whole
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed
from limbeck.errors import ModelError, RecipeError
from limbeck.metrics import (
    Grid,
    Measure,
    energy_distance,
    kl_on_grid,
    maximum_mean_discrepancy,
    median_distance,
    throughput,
)
from limbeck.pictures import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DensityEvaluation", "KnownDensity", "draw_points"]

_PIXELS = 100  # of the density in a picture, along each axis
_SPLITS = 20


@runtime_checkable
class KnownDensity(Protocol):
    """What a model needs besides being a :class:`~limbeck.DGM`."""

    target_names: tuple[str, ...]
    """Targets, one for each column of the data."""

    def log_likelihood(self, y: Tensor) -> Tensor:
        """Log-density of rows of shape (batch, 2), in nats, shape (batch,)."""
        ...


class DensityEvaluation(Evaluation):
    """Exact log-likelihood and exact KL from the teacher of models of two real targets; distances between samples.

    Args:
        samples: points drawn from each model for the distances.
        plotted: points drawn for the kernel density estimate in each model's picture; [U] Fig. 10 has 272.
        steps_per_axis: points of the quadrature grid along each axis.
        failure: divergence from the teacher above which a run counts as failed, in nats.
    """

    def __init__(
        self, samples: int = 2000, plotted: int = 272, steps_per_axis: int = 201, failure: float = 0.1
    ) -> None:
        check_whole(3, "evaluation.", samples=samples, plotted=plotted, steps_per_axis=steps_per_axis)
        if not failure >= 0:
            raise RecipeError(f"evaluation.failure is a divergence in nats, at least 0, not {failure}")
        self.samples = samples
        self.plotted = plotted
        self.steps_per_axis = steps_per_axis
        self.failure = failure

    @override
    def measures(self, dataset: Dataset | None) -> list[Measure]:
        on_data = [Measure("log_likelihood", "log-likelihood of the training rows", "higher", 3, "nats")]
        if dataset is not None and dataset.test is not dataset.train:
            on_data.append(Measure("held_out", "log-likelihood of held-out rows", "higher", 3, "nats"))
        on_data.append(Measure("energy_data", "energy distance to the data", "lower", 4))
        on_data.append(Measure("mmd_data", "squared MMD to the data", "lower", 4))
        return [
            Measure("kl_teacher", "KL(teacher || model), exact", "lower", 5, "nats"),
            Measure("failed", f"share of failed runs (KL > {self.failure:g})", "lower", 2),
            *(on_data if dataset is not None else []),
            Measure("energy_teacher", "energy distance to the teacher", "lower", 4),
            Measure("mmd_teacher", "squared MMD to the teacher", "lower", 4),
            PARAMETERS,
            INFERENCE_PARAMETERS,
            throughput_measure("points"),
            TRAIN_SECONDS,
        ]

    @override
    def judge(self, dataset: Dataset | None, teacher: DGM, cache: Path, seed: int, progress: Progress) -> DensityJudge:
        """See :class:`Evaluation`.

        Raises:
            RecipeError: the data are not a table of two columns.
        """
        if dataset is not None and not (isinstance(dataset, TableDataset) and len(dataset.columns) == 2):
            raise RecipeError("DensityEvaluation is for tables of two columns; give the recipe such data, or none")
        return DensityJudge(self, dataset, teacher, seed)

    @override
    def dry(self) -> Self:
        return self._with(samples=min(200, self.samples), plotted=min(100, self.plotted), steps_per_axis=41)


class DensityJudge(Judge):
    """See :class:`DensityEvaluation`."""

    def __init__(self, settings: DensityEvaluation, dataset: TableDataset | None, teacher: DGM, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.reference_key = model_key(teacher)
        self.teacher = _known(teacher)
        self.teacher_points = draw_points(teacher, settings.samples, derive_seed(seed, "teacher samples"))
        self.train = None if dataset is None else dataset.train.values
        self.held_out = None if dataset is None or dataset.test is dataset.train else dataset.test.values
        self.columns = ("y1", "y2") if dataset is None else dataset.columns
        reference = self.teacher_points[:1000] if self.train is None else self.train
        self.bandwidth = median_distance(reference)
        seen = self.teacher_points if self.train is None else torch.cat([self.teacher_points, self.train])
        # Half as wide again on every side; the notes report the teacher's mass on the grid.
        low, high = seen.min(0).values, seen.max(0).values
        size = high - low
        self.grid = Grid.over((low - 0.5 * size).tolist(), (high + 0.5 * size).tolist(), settings.steps_per_axis)
        self.window = (low - 0.1 * size).tolist(), (high + 0.1 * size).tolist()
        self.references: dict[str, float] = {}
        self.notes = [
            f"Likelihoods are exact, and so is the KL divergence up to quadrature: {settings.steps_per_axis} by "
            f"{settings.steps_per_axis} points, on which the teacher's mass is 1 {self._mass() - 1.0:+.0e}.",
            f"Energy distance and MMD (Gaussian kernel of width {self.bandwidth:.2f}, the median distance of the "
            f"reference) are unbiased, from {settings.samples:,} points of a model, and can be negative.",
            f"Pictures: kernel density estimate (Scott's rule) from {settings.plotted} points drawn from each model, "
            "which are shown too"
            + (". Lines: the same estimate from the training rows." if self.train is not None else "."),
        ]
        if self.train is not None:
            self.notes.append(
                f"Differences by chance alone: two random halves of the {len(self.train)} training rows differ in "
                f"energy distance by {self._chance():.4f} (root mean square over {_SPLITS} splits)."
            )

    @override
    def measure(self, subject: Subject) -> dict[str, float]:
        model, settings = _known(subject.model), self.settings
        drawn = draw_points(subject.model, settings.samples, derive_seed(self.seed, "samples"))
        with torch.no_grad():
            divergence, _ = kl_on_grid(self.teacher.log_likelihood, model.log_likelihood, self.grid)
            values = {"kl_teacher": divergence, "failed": float(divergence > settings.failure)}
            for key, rows in (("log_likelihood", self.train), ("held_out", self.held_out)):
                if rows is not None:
                    values[key] = float(model.log_likelihood(rows).mean())
        for name, points in (("data", self.train), ("teacher", self.teacher_points)):
            if points is not None:
                values[f"energy_{name}"] = energy_distance(drawn, points)
                values[f"mmd_{name}"] = maximum_mean_discrepancy(drawn, points, bandwidth=self.bandwidth)
        values |= parameter_counts(subject.model, inference=True)
        values["samples_per_second"] = throughput(subject.model.sample, min(1000, settings.samples))
        plotted = draw_points(subject.model, settings.plotted, derive_seed(self.seed, "plotted"))
        save_figure(self._drawn(plotted), subject.directory / "samples.png")
        return values

    @torch.no_grad()
    def _mass(self) -> float:
        return kl_on_grid(self.teacher.log_likelihood, self.teacher.log_likelihood, self.grid)[1]

    def _chance(self) -> float:
        assert self.train is not None
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "halves"))
        squares = 0.0
        for _ in range(_SPLITS):
            halves = self.train[torch.randperm(len(self.train), generator=generator)].chunk(2)
            squares += energy_distance(*halves) ** 2
        return math.sqrt(squares / _SPLITS)

    def _density(self, points: Tensor) -> Any:
        """Kernel density estimate from points of shape (points, 2), on the pixels of the picture, row by row.

        ``None`` for points on one line, of which there is no such estimate: those of a model that went astray.
        """
        from scipy.linalg import LinAlgError
        from scipy.stats import gaussian_kde

        canvas = Grid.over(*self.window, _PIXELS).points
        try:
            estimate = gaussian_kde(points.double().T.numpy())
        except (LinAlgError, ValueError):
            return None
        return estimate(canvas.T.numpy()).reshape(_PIXELS, _PIXELS).T

    def _drawn(self, points: Tensor) -> Figure:
        """A picture of points of shape (points, 2), on the same axes for every model."""
        from matplotlib.figure import Figure

        (left, bottom), (right, top) = self.window
        extent = (left, right, bottom, top)
        figure = Figure(figsize=(3.2, 3.2), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        axes.set_facecolor("black")
        if (density := self._density(points)) is not None:
            axes.imshow(density, origin="lower", extent=extent, aspect="auto", cmap="magma")
        axes.scatter(points[:, 0].tolist(), points[:, 1].tolist(), s=2, color="white", alpha=0.5, linewidths=0)
        if self.train is not None and (density := self._density(self.train)) is not None:
            axes.contour(density, 4, extent=extent, colors="deepskyblue", linewidths=0.8)
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        axes.set_xlabel(self.columns[0])
        axes.set_ylabel(self.columns[1])
        return figure


def draw_points(model: DGM, rows: int, seed: int) -> Tensor:
    """Points drawn from a model of real targets, one target per column.

    Args:
        model: its targets are of shape (batch, 1), and named in ``target_names``.
        rows: how many.
        seed: fixes them.

    Returns:
        Shape (rows, targets).

    Raises:
        ModelError: the model's density is not known, or it draws numbers that are not finite.
    """
    known = _known(model)
    targets = model.sample(rows, generator=torch.Generator().manual_seed(seed))
    points = torch.cat([targets[name] for name in known.target_names], dim=1)
    if not bool(torch.isfinite(points).all()):
        raise ModelError("the model draws points that are NaN or infinite; its weights are broken")
    return points


def _known(model: DGM) -> KnownDensity:
    if not isinstance(model, KnownDensity):
        raise ModelError(
            f"{type(model).__name__} has no exact density; define log_likelihood(y) and target_names, as "
            "limbeck.models.HelmholtzMachine does"
        )
    return model
