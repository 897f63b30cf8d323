"""Measuring classifiers: accuracy, likelihood, calibration, likeness to the teacher, size, speed, a diagram."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, OneHotCategorical

from limbeck.core.graph import DGM
from limbeck.core.trace import KEEP_DISTRIBUTION, Kind, keep_only
from limbeck.data import Dataset, ImageDataset, as_float
from limbeck.engine.evaluation import Evaluation, Judge, Subject
from limbeck.engine.progress import Progress
from limbeck.engine.seeding import derive_seed
from limbeck.engine.stages import weights_fingerprint
from limbeck.errors import ModelError, RecipeError
from limbeck.metrics import (
    Measure,
    Reliability,
    accuracy,
    calibration_error,
    mean_nll,
    parameter_count,
    reliability,
    throughput,
)
from limbeck.pictures import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ClassifierEvaluation", "predict"]


class ClassifierEvaluation(Evaluation):
    """Accuracy, NLL and calibration of a classifier's predictive distribution on the test images.

    For models of ``target: labels`` given ``condition: images`` with one categorical target. The predictive
    distribution is the mean of the class probabilities over noise draws ([U] Eq. 11); a model without latents needs
    one draw only.

    Args:
        draws: noise draws of the latents that a prediction averages.
        bins: bins of equal width in the calibration error and in the diagram.
        rows: test images to measure on; ``None`` for all.
    """

    def __init__(self, draws: int = 12, bins: int = 15, rows: int | None = None) -> None:
        if draws < 1 or bins < 1 or (rows is not None and rows < 1):
            raise RecipeError(f"evaluation: draws ({draws}), bins ({bins}) and rows ({rows}) must be at least 1")
        self.draws = draws
        self.bins = bins
        self.rows = rows

    def measures(self, dataset: Dataset | None) -> list[Measure]:
        """See :class:`Evaluation`."""
        return [
            Measure("nll", "test NLL", "lower", 4, "nats"),
            Measure("accuracy", "test accuracy", "higher", 2, "%"),
            Measure("ece", f"ECE, {self.bins} bins", "lower", 4),
            Measure("kl_teacher", "KL from the teacher", "lower", 4, "nats"),
            Measure("agreement", "same class as the teacher", "higher", 2, "%"),
            Measure("parameters_generative", "parameters", "lower", 0),
            Measure("samples_per_second", f"images a second, {self.draws} draws", "higher", 0),
            Measure("train_seconds", "training time", "lower", 0, "s"),
        ]

    def judge(
        self, dataset: Dataset | None, teacher: DGM, cache: Path, seed: int, progress: Progress
    ) -> ClassifierJudge:
        """See :class:`Evaluation`.

        Raises:
            RecipeError: the data are not labelled images.
        """
        if not isinstance(dataset, ImageDataset):
            raise RecipeError(
                "ClassifierEvaluation needs labelled images: give the recipe data of images, target: labels and "
                "condition: images"
            )
        return ClassifierJudge(self, dataset, teacher, seed)

    def dry(self) -> ClassifierEvaluation:
        """See :class:`Evaluation`."""
        return ClassifierEvaluation(min(2, self.draws), self.bins, min(200, self.rows or 200))


class ClassifierJudge(Judge):
    """See :class:`ClassifierEvaluation`."""

    def __init__(self, settings: ClassifierEvaluation, dataset: ImageDataset, teacher: DGM, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.reference_key = weights_fingerprint(teacher)
        self.images = as_float(dataset.test.images[: settings.rows])
        self.labels = dataset.test.labels[: settings.rows]
        self.taught = self._predict(teacher, "teacher")
        share = float(torch.bincount(self.labels).max()) / len(self.labels)
        self.references = {"most frequent class, accuracy": 100 * share}
        self.notes = [
            f"Measured on {len(self.labels):,} test images. A prediction is the mean of the class probabilities over "
            f"{settings.draws} noise draws (one where the model has no latents), the same noise for every model.",
            f"ECE: expected calibration error of the most probable class in {settings.bins} bins of equal width. KL "
            "and agreement compare these predictions with the teacher's; for the teacher itself they compare two sets "
            "of draws, so they are what the finite number of draws leaves.",
        ]

    def measure(self, subject: Subject) -> dict[str, float]:
        """See :class:`Judge`."""
        model = subject.model
        found = self._predict(model, "predictions")
        taught = self.taught
        if found.shape != taught.shape:
            raise ModelError(f"the model has {found.shape[1]} classes but its teacher {taught.shape[1]}")
        divergence = (taught.exp() * (taught - found)).masked_fill(taught == -math.inf, 0.0).sum(1)
        diagram = reliability(found, self.labels, self.settings.bins)
        error = calibration_error(found, self.labels, self.settings.bins)
        save_figure(_drawn(diagram, error), subject.directory / "samples.png")
        return {
            "nll": mean_nll(found, self.labels),
            "accuracy": 100 * accuracy(found, self.labels),
            "ece": error,
            "kl_teacher": divergence.mean().item(),
            "agreement": 100 * accuracy(found, taught.argmax(1)),
            "parameters_generative": float(parameter_count(model.generative_parameters())),
            "samples_per_second": self._speed(model),
        }

    def _predict(self, model: DGM, purpose: str) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, purpose))
        return predict(model, self.images, draws=self.settings.draws, generator=generator)

    def _speed(self, model: DGM) -> float:
        images = self.images[:100]
        draws = self.settings.draws
        return throughput(lambda rows: predict(model, images[:rows], draws=draws), len(images))


@torch.no_grad()
def predict(
    model: DGM, x: Tensor, *, draws: int = 12, generator: torch.Generator | None = None, batch_size: int = 500
) -> Tensor:
    r"""Log probabilities of a classifier's predictive distribution, by Monte Carlo over its latents ([U] Eq. 11).

    .. math:: \log p(y | x) \approx \log \frac1N \sum_n p(y | z^{(n)}, x), \quad z^{(n)} \sim p(z | x)

    Args:
        model: a model with one categorical target; in eval mode, if it has modes.
        x: conditioning input, shape (rows, ...).
        draws: number N of draws of the latents; a model without latents is run once.
        generator: source of noise.
        batch_size: rows at a time.

    Returns:
        Float64 on the CPU, shape (rows, classes).

    Raises:
        ModelError: the model has not exactly one target, or it is not a single category a row.
    """
    probe = model.trace(x=x[:1], keep=lambda name, kind: KEEP_DISTRIBUTION, generator=torch.Generator().manual_seed(0))
    targets = probe.of_kind(Kind.TARGET)
    if len(targets) != 1:
        names = ", ".join(site.name for site in targets) or "none"
        raise ModelError(f"{type(model).__name__} has the targets {names}; a classifier has a single one")
    name = targets[0].name
    if not probe.of_kind(Kind.LATENT):
        draws = 1
    first = next(model.parameters(), x)
    parts = []
    for rows in torch.split(x, batch_size):
        rows = rows.to(first.device, first.dtype)
        logits = []
        for _ in range(draws):
            trace = model.trace(x=rows, keep=keep_only(name), generator=generator)
            logits.append(_logits(trace[name].distribution))
        parts.append(torch.logsumexp(torch.stack(logits), 0) - math.log(draws))
    return torch.cat(parts)


def _logits(law: Distribution | None) -> Tensor:
    """Normalised log probabilities, float64 on the CPU, shape (rows, classes)."""
    while isinstance(law, Independent):
        law = law.base_dist
    if not isinstance(law, Categorical | OneHotCategorical) or len(law.batch_shape) != 1:
        raise ModelError(f"a classifier's target is a Categorical of batch shape (rows,), not {law}")
    return torch.log_softmax(law.logits.double().cpu(), -1)


def _drawn(diagram: Reliability, error: float) -> Figure:
    """A reliability diagram: accuracy over confidence, and below how many predictions each bin holds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2, 3.2), dpi=160, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = diagram.edges.diff()
    centre = diagram.edges[:-1] + width / 2
    upper.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle="--")
    upper.bar(centre, diagram.accuracy.nan_to_num(0.0), width=0.9 * width, color="#2b6cb0")
    upper.plot(diagram.confidence, diagram.accuracy, "o", color="black", markersize=3)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.set_title(f"ECE {error:.4f}", fontsize="medium")
    lower.bar(centre, diagram.share, width=0.9 * width, color="0.6")
    lower.set(xlabel="confidence", ylabel="share", ylim=(0, 1))
    return figure
