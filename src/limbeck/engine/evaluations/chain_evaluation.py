"""Measuring chains: the exact divergence of the target's law from the teacher's, and estimates of it from samples."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution
from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.data import Dataset
from limbeck.engine.evaluations.evaluation import (
    PARAMETERS,
    TRAIN_SECONDS,
    Evaluation,
    Judge,
    Subject,
    parameter_counts,
)
from limbeck.engine.settings.checks import check_whole
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed
from limbeck.errors import ModelError, RecipeError
from limbeck.metrics import (
    Grid,
    Measure,
    chain_marginal,
    density_kl,
    histogram_kl,
    integer_grid,
    interval_grid,
    kl_density_ratio,
)
from limbeck.pictures import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ChainEvaluation", "target_law"]

_REFINEMENTS = (1, 3, 9)  # of the grid, for models with narrow layers


@runtime_checkable
class Chain(Protocol):
    """What a model needs besides being a :class:`~limbeck.DGM`: a Markov chain of scalars with a uniform root.

    Attributes:
        count: largest value of the variables after the root where they are counts; ``None`` for real numbers.
        low: lower end of the root's law, one number.
        high: upper end.
    """

    count: int | None
    low: Tensor
    high: Tensor

    def conditionals(self) -> Sequence[Callable[[Tensor], Distribution]]:
        """From values of one variable, shape (batch, 1), to the law of the next, batch shape (batch, 1)."""
        ...


class ChainEvaluation(Evaluation):
    """KL(teacher || student) of the target of a Markov chain ([U] Fig. 2 and 11).

    The target's law is computed on a grid, layer by layer, so that the divergence has no sampling error; the paper's
    estimate by density ratios, from samples, stands beside it.

    Args:
        samples: targets drawn from teacher and student for the estimate by density ratios.
        points: points of the grid for chains of real numbers, and of the root's.
        reach: half the length of the grid for chains of real numbers.
    """

    def __init__(self, samples: int = 5000, points: int = 1600, reach: float = 30.0) -> None:
        check_whole(100, "evaluation.", samples=samples, points=points)
        if not reach > 0:
            raise RecipeError(f"evaluation.reach must be positive, not {reach}")
        self.samples = samples
        self.points = points
        self.reach = reach

    @override
    def measures(self, dataset: Dataset | None) -> list[Measure]:
        return [
            Measure("kl", "KL from the teacher, exact", "lower", 4, "nats"),
            Measure("kl_ratio", f"KL by density ratio, {self.samples:,} samples", "lower", 4, "nats"),
            Measure("kl_ratio_error", "its standard error", "neither", 4, "nats"),
            PARAMETERS,
            TRAIN_SECONDS,
        ]

    @override
    def judge(self, dataset: Dataset | None, teacher: DGM, cache: Path, seed: int, progress: Progress) -> ChainJudge:
        """See :class:`Evaluation`.

        Raises:
            RecipeError: the teacher is no chain.
        """
        if not isinstance(teacher, Chain):  # by what it offers, not by its class
            raise RecipeError(f"ChainEvaluation measures chains, but the teacher is a {type(teacher).__name__}")
        return ChainJudge(self, teacher, seed)

    @override
    def dry(self) -> Self:
        return self._with(samples=min(200, self.samples), points=min(800, self.points))


class ChainJudge(Judge):
    """See :class:`ChainEvaluation`."""

    def __init__(self, settings: ChainEvaluation, teacher: DGM, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.reference_key = model_key(teacher)
        self.count = _known(teacher).count
        if self.count is None:
            self.grid = interval_grid(-settings.reach, settings.reach, settings.points)
        else:
            self.grid = integer_grid(self.count)
        self.teacher_law = self._law(teacher)
        self.drawn = self._draw(teacher, "teacher")
        floor = histogram_kl(self.drawn, self._draw(teacher, "teacher again"))
        self.references = {
            f"KL of the teacher from itself by histograms of {settings.samples:,} samples, "
            f"standard error {floor.error:.4f}": floor.value
        }
        self.notes = [
            f"The target's law is computed layer by layer on {len(self.grid.points):,} points (Chapman-Kolmogorov), so "
            f"the exact KL has no sampling error; these points miss {self._missed:.1e} of the teacher's mass.",
            f"The estimate by density ratio (a classifier that tells {settings.samples:,} samples of each side apart, "
            "fitted on one half and evaluated on the other) is a lower bound up to its standard error.",
        ]

    @property
    def _missed(self) -> float:
        return max(0.0, 1.0 - float(self.teacher_law.sum()) * self.grid.volume)

    @override
    def measure(self, subject: Subject) -> dict[str, float]:
        """See :class:`Judge`.

        Raises:
            ModelError: the model is no chain of the teacher's kind, or too narrow for the grid.
        """
        model = subject.model
        if not isinstance(model, Chain) or model.count != self.count:
            kind = "real numbers" if self.count is None else f"counts up to {self.count}"
            raise ModelError(f"{type(model).__name__} is not a chain of {kind}, as its teacher is")
        learned = self._law(subject.model)
        estimate = kl_density_ratio(
            self.drawn, self._draw(subject.model, "samples"), seed=derive_seed(self.seed, "ratio")
        )
        save_figure(self._plotted(learned), subject.directory / "samples.png")
        return {
            "kl": density_kl(self.teacher_law, learned, self.grid),
            "kl_ratio": estimate.value,
            "kl_ratio_error": estimate.error,
            **parameter_counts(subject.model),
        }

    def _law(self, model: DGM) -> Tensor:
        chain = _known(model)
        if chain.count is not None:
            return target_law(model, self.grid, self.settings.points)
        points = self.grid.points.to(chain.low)
        with torch.no_grad():
            narrowest = min(float(law(points).stddev.min()) for law in chain.conditionals())
        # Sums over points that lie one scale apart are accurate to 1e-8. Odd refinements contain the grid's own points.
        refined = next((factor for factor in _REFINEMENTS if self.grid.volume <= factor * narrowest), None)
        if refined is None:
            raise ModelError(
                f"{type(model).__name__}: a layer has the scale {narrowest:.2g}, too narrow for a grid whose points "
                f"lie {self.grid.volume:.2g} apart; raise evaluation.points"
            )
        grid = interval_grid(-self.settings.reach, self.settings.reach, refined * self.settings.points)
        return target_law(model, grid, self.settings.points)[refined // 2 :: refined]

    def _draw(self, model: DGM, purpose: str) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, purpose))
        return model.sample(self.settings.samples, generator=generator)["y"]

    def _plotted(self, learned: Tensor) -> Figure:
        """Both laws as distribution functions, which show atoms and tails alike."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.2, 2.4), dpi=160, layout="constrained")
        axes = figure.subplots()
        for law, colour, label in ((self.teacher_law, "0.6", "teacher"), (learned, "#2b6cb0", "model")):
            reached = (law * self.grid.volume).cumsum(0)
            axes.plot(self.grid.points[:, 0], reached, color=colour, label=label, linewidth=3 if colour == "0.6" else 1)
        axes.set(xlim=(-3, 3) if self.count is None else (0, self.count), ylim=(0, 1.02), xlabel="y", ylabel="P(≤ y)")
        axes.legend(frameon=False)
        return figure


def target_law(model: DGM, grid: Grid, points: int) -> Tensor:
    """Density (or probabilities) of a chain's target on a grid, in float64.

    Args:
        model: any chain; computed on a copy of it in double precision, on the CPU.
        grid: where its variables after the root live; points of shape (points, 1).
        points: points of the root's own grid.

    Returns:
        Shape (points,).

    >>> from limbeck.models import BinomialChain
    >>> law = target_law(BinomialChain(layers=1, exponent=1.0, count=4), integer_grid(4), 1000)
    >>> [round(p, 4) for p in law.tolist()]  # a uniform probability makes all counts equally likely
    [0.2, 0.2, 0.2, 0.2, 0.2]
    """
    chain = _known(copy.deepcopy(model).cpu().double())
    low, high = float(chain.low), float(chain.high)
    root = interval_grid(low, high, points)
    density = torch.full((points,), 1.0 / (high - low), dtype=torch.float64)
    return chain_marginal(chain.conditionals(), root, density, grid)


def _known(model: DGM) -> Chain:
    if not isinstance(model, Chain):
        raise ModelError(f"{type(model).__name__} is no chain; it needs count, low, high and conditionals()")
    return model
