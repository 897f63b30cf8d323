"""Measuring classifiers: accuracy, likelihood, calibration, likeness to the teacher, size, speed, a diagram."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.divergence.categorical import categorical_kl
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.data import Dataset, ImageDataset, as_float
from limbeck.engine.evaluations.classifiers.predictive import has_latents, predict
from limbeck.engine.evaluations.classifiers.reliability_figure import reliability_figure
from limbeck.engine.evaluations.evaluation import (
    LEARNED_PARAMETERS,
    PARAMETERS,
    TRAIN_SECONDS,
    Evaluation,
    Judge,
    Subject,
    parameter_counts,
    throughput_measure,
)
from limbeck.engine.settings.checks import check_whole
from limbeck.engine.settings.placement import check_device, chosen_device, placed
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed
from limbeck.errors import ModelError, RecipeError
from limbeck.metrics import (
    Measure,
    accuracy,
    calibration_error,
    mean_nll,
    reliability,
    throughput,
)
from limbeck.pictures import save_figure

__all__ = ["ClassifierEvaluation"]

_TIE = 1e-3  # errors that the likelihood is worth at most: it only breaks ties
_FEW = 10  # classes; with no more than these, the first five of a prediction say little


class ClassifierEvaluation(Evaluation):
    """Accuracy, NLL and calibration of a classifier's predictive distribution on the test images.

    For models of ``target: labels`` given ``condition: images`` with one categorical target. The predictive
    distribution is the mean of the class probabilities over noise draws ([U] Eq. 11); a model without latents needs
    one draw only.

    Args:
        draws: noise draws of the latents that a prediction averages.
        bins: bins of equal width in the calibration error and in the diagram.
        rows: test images to measure on; ``None`` for all.
        primary: which measure comes first; the share of the gap to the teacher that a student closes is that of it.
        compare: whether predictions are compared with the teacher's; set it to false where the teacher's classes mean
            something else. Where their number differs, predictions are never compared.
        timing: seconds for which each model's speed is measured.
        device: where models without latents predict; ``"auto"`` is a GPU if there is one.

    Raises:
        RecipeError: a number is below 1, or there is no such measure.
    """

    def __init__(
        self,
        draws: int = 12,
        bins: int = 15,
        rows: int | None = None,
        primary: Literal["nll", "accuracy"] = "nll",
        compare: bool = True,
        timing: float = 1.0,
        device: str = "auto",
    ) -> None:
        check_whole(1, "evaluation.", draws=draws, bins=bins)
        if rows is not None:
            check_whole(1, "evaluation.", rows=rows)
        if primary not in ("nll", "accuracy"):
            raise RecipeError(f"evaluation: primary must be nll or accuracy, not {primary!r}")
        check_device(device)
        if not 0 < timing < math.inf:
            raise RecipeError(f"evaluation: timing must be a positive number of seconds, not {timing}")
        self.draws = draws
        self.bins = bins
        self.rows = rows
        self.primary = primary
        self.compare = compare
        self.timing = timing
        self.device = device

    score_label = "error rate, ties broken by the NLL"

    @override
    def measures(self, dataset: Dataset | None) -> list[Measure]:
        first = [
            Measure("nll", "test NLL", "lower", 4, "nats"),
            Measure("accuracy", "test accuracy", "higher", 2, "%"),
        ]
        top5 = Measure("top5", "top-5 accuracy", "higher", 2, "%", detail=True)
        return [
            *(first if self.primary == "nll" else reversed(first)),
            *([top5] if dataset is not None and len(getattr(dataset, "classes", ())) > _FEW else []),
            Measure("confidence", "mean probability of the chosen class", "neither", 2, "%", detail=True),
            Measure("ece", f"ECE, {self.bins} bins", "lower", 4),
            Measure("kl_teacher", "KL from the teacher", "lower", 4, "nats"),
            Measure("agreement", "same class as the teacher", "higher", 2, "%"),
            PARAMETERS,
            LEARNED_PARAMETERS,
            throughput_measure("images", self._drawing(", {} draws")),
            TRAIN_SECONDS,
        ]

    def _drawing(self, text: str) -> str:
        """A text about the number of draws; empty for a single draw, of which there is nothing to say."""
        return "" if self.draws == 1 else text.format(self.draws)

    @override
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

    @override
    def score(self, model: DGM, rows: Batch) -> float:
        """Error rate; of models with equally many errors, the one with the smaller mean NLL is better.

        The NLL adds at most a thousandth of an error.
        """
        if rows.x is None:
            raise RecipeError("ClassifierEvaluation needs something to classify: condition: images")
        device = torch.device("cpu") if has_latents(model, rows.x[:1]) else chosen_device(self.device)
        with placed(model, device):
            found = predict(model, as_float(rows.x), draws=self.draws, generator=torch.Generator().manual_seed(0))
        errors = round(len(rows) * (1.0 - accuracy(found, rows.y)))
        nll = max(0.0, mean_nll(found, rows.y))
        return (errors + _TIE * (nll / (1.0 + nll) if math.isfinite(nll) else 1.0)) / len(rows)

    @override
    def dry(self) -> Self:
        return self._with(draws=min(2, self.draws), rows=min(200, self.rows or 200), timing=min(0.01, self.timing))


class ClassifierJudge(Judge):
    """See :class:`ClassifierEvaluation`."""

    def __init__(self, settings: ClassifierEvaluation, dataset: ImageDataset, teacher: DGM, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.reference_key = model_key(teacher)
        self.device = chosen_device(settings.device)
        self.images = as_float(dataset.test.images[: settings.rows])
        self.labels = dataset.test.labels[: settings.rows]
        self.classes = len(dataset.classes)
        self.teacher_prediction = self._predict(teacher, "teacher")
        share = float(torch.bincount(self.labels).max()) / len(self.labels)
        self.references = {"most frequent class, accuracy": 100 * share}
        self.notes = [
            f"Measured on {len(self.labels):,} test images."
            + settings._drawing(
                " A prediction is the mean of the class probabilities over {} noise draws (one where the model has no "
                "latents), the same noise for every model."
            ),
            f"ECE: expected calibration error of the most probable class in {settings.bins} bins of equal width. "
            f"Speeds are those of batches of 100 images on {self.device.type}.",
            "Pictures: the accuracy of the predictions in each bin (dots: at the bin's mean confidence), and the bin's "
            "share of all predictions.",
        ]
        if settings.compare:
            self.notes.append(
                "KL and agreement compare the predictions with the teacher's"
                + settings._drawing(
                    "; for the teacher itself they compare two sets of {} draws, so they show the error of a finite "
                    "number of draws"
                )
                + "."
            )

    @override
    def measure(self, subject: Subject) -> dict[str, float]:
        model = subject.model
        found = self._predict(model, "predictions")
        if found.shape[1] != self.classes and model_key(model) == self.reference_key:
            return self._cost(model)  # a teacher of another task: its classes are not those of the labels
        if found.shape[1] <= int(self.labels.max()):
            raise ModelError(
                f"the model has {found.shape[1]} classes, but the labels of the test rows go up to "
                f"{int(self.labels.max())}"
            )
        diagram = reliability(found, self.labels, self.settings.bins)
        error = calibration_error(found, self.labels, self.settings.bins)
        save_figure(reliability_figure(diagram, error), subject.directory / "samples.png")
        values = {
            "nll": mean_nll(found, self.labels),
            "accuracy": 100 * accuracy(found, self.labels),
            "confidence": 100 * found.amax(1).exp().mean().item(),
            "ece": error,
            **self._cost(model),
        }
        if found.shape[1] > _FEW:
            among = found.topk(5).indices == self.labels[:, None]
            values["top5"] = 100 * among.any(1).double().mean().item()
        return values | self._likeness(found)

    def _likeness(self, found: Tensor) -> dict[str, float]:
        """How close the predictions are to the teacher's, where both are about the same classes."""
        teacher = self.teacher_prediction
        if not self.settings.compare or found.shape != teacher.shape:
            return {}
        divergence = categorical_kl(teacher, found)
        return {"kl_teacher": divergence.mean().item(), "agreement": 100 * accuracy(found, teacher.argmax(1))}

    def _predict(self, model: DGM, purpose: str) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, purpose))
        with placed(model, self._place(model)):
            return predict(model, self.images, draws=self.settings.draws, generator=generator)

    def _place(self, model: DGM) -> torch.device:
        """The device for a model; noise is drawn on the CPU, so a model that needs any stays there."""
        return torch.device("cpu") if has_latents(model, self.images[:1]) else self.device

    def _cost(self, model: DGM) -> dict[str, float]:
        """How large and how fast a model is."""
        images = self.images[:100]
        draws = self.settings.draws
        with placed(model, self._place(model)):
            speed = throughput(
                lambda rows: predict(model, images[:rows], draws=draws), len(images), seconds=self.settings.timing
            )
        return {**parameter_counts(model), "samples_per_second": speed}
