"""Measuring models of pen drawings: likelihood, divergence from the teacher, whole drawings, size, speed, pictures."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.core.reparam import Law
from limbeck.core.trace import KEEP_NOISE, keep_fields
from limbeck.data import Dataset, StrokeDataset
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
from limbeck.engine.evaluations.strokes.stroke_encoder import with_fitted_encoder
from limbeck.engine.evaluations.strokes.stroke_extractor import (
    PREDICTOR_TRAINING,
    predictor_features,
    trained_predictor,
)
from limbeck.engine.evaluations.strokes.stroke_figure import save_drawings
from limbeck.engine.evaluations.strokes.stroke_models import HasLogLikelihood, draw, drawings_of
from limbeck.engine.settings.checks import check_whole
from limbeck.engine.settings.precision import like_weights
from limbeck.engine.stages.fingerprints import fingerprint, weights_fingerprint
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed, seeded
from limbeck.errors import ModelError, RecipeError, ReparameterizationError, SiteError
from limbeck.metrics import (
    Measure,
    StrokePredictor,
    drawing_features,
    drawing_lengths,
    energy_distance,
    frechet_distance,
    standardised,
    throughput,
)

__all__ = ["StrokeEvaluation"]


class StrokeEvaluation(Evaluation):
    """Bound on the test likelihood, KL from the teacher, and distances between sets of drawings.

    Args:
        samples: drawings from each model, compared with the test split and with as many of the teacher.
        particles: of the filter that bounds likelihoods.
        bound_drawings: test drawings, and as many of the teacher's, on which likelihoods are bounded.
        encoder_steps: training steps of each model's encoder before that, the same for all models: students that see no
            data have no trained encoder. The models themselves are not changed.
        predictor_steps: training steps of the network in whose features drawings are compared.
        grid: drawings of a model in its picture.
    """

    def __init__(
        self,
        samples: int = 1000,
        particles: int = 64,
        bound_drawings: int = 200,
        encoder_steps: int = 200,
        predictor_steps: int = PREDICTOR_TRAINING.steps,
        grid: int = 32,
    ) -> None:
        check_whole(2, "evaluation.", samples=samples, bound_drawings=bound_drawings)
        check_whole(1, "evaluation.", particles=particles, predictor_steps=predictor_steps, grid=grid)
        check_whole(0, "evaluation.", encoder_steps=encoder_steps)
        self.samples = samples
        self.particles = particles
        self.bound_drawings = bound_drawings
        self.encoder_steps = encoder_steps
        self.predictor_steps = predictor_steps
        self.grid = grid

    @property
    @override
    def steps(self) -> int:
        return self.predictor_steps

    @override
    def measures(self, dataset: Dataset | None) -> list[Measure]:
        """See :class:`Evaluation`.

        Raises:
            RecipeError: the data are not drawings, or too few to be compared.
        """
        _strokes_of(dataset)
        return [
            Measure("bound", f"test log-likelihood bound, K = {self.particles}", "higher", 3, "nats per point"),
            Measure("kl_teacher", "KL from the teacher", "lower", 3, "nats per point"),
            Measure("kl_teacher_error", "its standard error", "neither", 3, "nats per point"),
            Measure("energy_data", "energy distance to test data", "lower", 4),
            Measure("energy_teacher", "energy distance to teacher", "lower", 4),
            Measure("frechet_data", "Frechet distance to test data", "lower", 3),
            Measure("frechet_teacher", "Frechet distance to teacher", "lower", 3),
            Measure("predictor_data", "predictor's Frechet distance to test data", "lower", 4),
            Measure("predictor_teacher", "predictor's Frechet distance to teacher", "lower", 4),
            Measure("points", "points per drawing", "neither", 1),
            PARAMETERS,
            INFERENCE_PARAMETERS,
            throughput_measure("drawings"),
            TRAIN_SECONDS,
        ]

    @override
    def judge(self, dataset: Dataset | None, teacher: DGM, cache: Path, seed: int, progress: Progress) -> StrokeJudge:
        dataset = _strokes_of(dataset)
        training = dataclasses.replace(PREDICTOR_TRAINING, steps=self.predictor_steps)
        predictor = trained_predictor(dataset, cache / "predictors", progress, training)
        return StrokeJudge(self, dataset, teacher, predictor, seed)

    @override
    def dry(self) -> Self:
        return self._with(
            samples=60, particles=2, bound_drawings=4, encoder_steps=2, predictor_steps=2, grid=min(8, self.grid)
        )


class StrokeJudge(Judge):
    """See :class:`StrokeEvaluation`."""

    def __init__(
        self, settings: StrokeEvaluation, dataset: StrokeDataset, teacher: DGM, predictor: StrokePredictor, seed: int
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.predictor = predictor
        self.reference_key = fingerprint(teacher=model_key(teacher), predictor=weights_fingerprint(predictor))
        self.test = dataset.test.strokes
        self.test_features = drawing_features(self.test)
        self.teacher_drawings = self._draw(teacher, settings.samples, "teacher samples")
        self.divergence_drawings = self._draw(teacher, settings.bound_drawings, "drawings for the divergence")
        # As many steps of both: the model's number and that of the data may differ. Cut, since steps that are added to
        # a drawing without an end would count.
        length = min(dataset.train.strokes.shape[1], self.teacher_drawings.shape[1])
        both = (dataset.train.strokes[: settings.samples], self.teacher_drawings)
        self.encoder_drawings = torch.cat([drawings[:, :length] for drawings in both])
        self.teacher_bound = self._bound(self._encoding(teacher), self.divergence_drawings)
        self.noise = self._noise(teacher)
        rows = min(len(dataset.train), settings.samples)
        real = self._distances(dataset.train.strokes[:rows], self.test)
        self.references = {
            f"real vs real: {measure.label}, of {rows:,} training drawings": real[measure.key.removesuffix("_data")]
            for measure in settings.measures(dataset)
            if measure.key.endswith("_data")
        }
        self.notes = self._notes(dataset.longer)

    @override
    def measure(self, subject: Subject) -> dict[str, float]:
        model, settings = subject.model, self.settings
        drawn = self._draw(model, settings.samples, "samples")
        to_data, to_teacher = self._distances(drawn, self.test), self._distances(drawn, self.teacher_drawings)
        test, encoding = self.test[: settings.bound_drawings], self._encoding(model)
        values = {
            "bound": float(self._bound(encoding, test).sum() / drawing_lengths(test).sum()),
            **self._divergence(encoding),
            **{f"{key}_data": value for key, value in to_data.items()},
            **{f"{key}_teacher": value for key, value in to_teacher.items()},
            "points": float(drawing_lengths(drawn).double().mean()),
            **parameter_counts(model, inference=True),
            "samples_per_second": throughput(model.sample, min(100, settings.samples)),
        }
        save_drawings(self.test, self._grid(model), subject.directory / "samples.png")
        return values

    def _notes(self, longer: int) -> list[str]:
        settings = self.settings
        beyond = f" {longer:,} longer drawings of the set were left out or cut." if longer else ""
        return [
            f"Energy and Frechet distances are between {settings.samples:,} drawings of a model and the "
            f"{len(self.test):,} test drawings (or as many of the teacher) in numbers of whole drawings: points, "
            "strokes, ink, way through the air, width, height, turning, distance from start to end; each in standard "
            f"deviations of the test data.{beyond}",
            "The predictor's features are the mean hidden state of a small recurrent network that was trained to "
            "predict the next point of real training drawings, without labels and without any model's samples.",
            f"Likelihoods are lower bounds by a particle filter with {settings.particles} particles, on "
            f"{len(self.test[: settings.bound_drawings]):,} test drawings. It proposes from an encoder; that of every "
            f"model, the teacher included, is first trained for {settings.encoder_steps} steps on training drawings "
            "and drawings of the teacher, while the rest of the model stays as it is.",
            f"KL from the teacher: difference of the two models' bounds on {settings.bound_drawings:,} drawings of the "
            "teacher, over their points. Each bound is too low, so the difference errs by the student's gap less the "
            "teacher's, and shrinks towards the truth with more particles; it is exactly 0 for the teacher itself.",
        ]

    def _divergence(self, model: DGM) -> dict[str, float]:
        """Mean difference of log-likelihoods per point, and the standard error of this ratio of means."""
        points = drawing_lengths(self.divergence_drawings).double()
        difference = (self.teacher_bound - self._bound(model, self.divergence_drawings)).double()
        ratio = difference.sum() / points.sum()
        error = (difference - ratio * points).std() / (math.sqrt(len(points)) * points.mean())
        return {"kl_teacher": float(ratio), "kl_teacher_error": float(error)}

    def _encoding(self, model: DGM) -> DGM:
        return with_fitted_encoder(
            model, self.encoder_drawings, self.settings.encoder_steps, derive_seed(self.seed, "encoder")
        )

    def _bound(self, model: DGM, drawings: Tensor) -> Tensor:
        if not isinstance(model, HasLogLikelihood):
            raise ModelError(f"{type(model).__name__} cannot be measured on drawings; define log_likelihood(y, ...)")
        generator = self._generator("bound")
        dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
        parts = [
            model.log_likelihood(
                part.to(dtype), particles=self.settings.particles, proposal="posterior", generator=generator
            )
            for part in torch.split(drawings, 100)
        ]
        return torch.cat(parts).double()

    def _distances(self, drawn: Tensor, other: Tensor) -> dict[str, float]:
        ours, theirs = (standardised(drawing_features(set_), self.test_features) for set_ in (drawn, other))
        seen = [predictor_features(self.predictor, set_) for set_ in (drawn, other)]
        return {
            "energy": energy_distance(ours, theirs),
            "frechet": frechet_distance(ours, theirs),
            "predictor": frechet_distance(seen[0], seen[1]),
        }

    def _draw(self, model: DGM, rows: int, purpose: str) -> Tensor:
        return draw(model, rows, self._generator(purpose))

    @torch.no_grad()
    def _noise(self, teacher: DGM) -> dict[str, Tensor]:
        """Noise for the picture, for every step that any model could take."""
        generator = self._generator("grid")
        first = teacher.trace(self.settings.grid, keep=keep_fields(KEEP_NOISE), generator=generator).noise
        steps = max(self.test.shape[1], self.teacher_drawings.shape[1])
        shapes = {name.removesuffix("[0]"): value for name, value in first.items() if name.endswith("[0]")}
        return {
            f"{family}[{step}]": torch.randn(value.shape, generator=generator, dtype=value.dtype)
            for step in range(steps)
            for family, value in shapes.items()
        }

    def _grid(self, model: DGM) -> Tensor:
        try:
            noise = {name: like_weights(model, eps) for name, eps in self.noise.items()}
            laws = dict.fromkeys(noise, Law.NORMAL)
            return drawings_of(model, model.sample(self.settings.grid, noise=noise, laws=laws))
        except (SiteError, ReparameterizationError):  # other latents: the picture is drawn from other noise
            with seeded(derive_seed(self.seed, "grid")):
                return drawings_of(model, model.sample(self.settings.grid))

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, purpose))


def _strokes_of(dataset: Dataset | None) -> StrokeDataset:
    if not isinstance(dataset, StrokeDataset):
        raise RecipeError("StrokeEvaluation needs drawings: give the recipe data of strokes and target: strokes")
    few = next((name for name, part in dataset.splits.items() if name != "validation" and len(part) < 2), None)
    if few is not None:
        raise RecipeError(
            f"StrokeEvaluation compares sets of drawings, but the {few} split of {dataset.name!r} has a single one; "
            "give it more"
        )
    return dataset
