"""Measuring generative models of images: FID and KID in named features, likelihood bound, size, speed, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.bounds import importance_weighted_bound
from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.core.reconstruction import reconstruct
from limbeck.core.trace import Trace
from limbeck.data import Dataset, ImageDataset, as_float
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
from limbeck.engine.evaluations.images.extractor import (
    EXTRACTOR_TRAINING,
    accuracy,
    check_extractor,
    extractor_name,
    feature_extractor,
)
from limbeck.engine.evaluations.images.image_samples import drawn_images, image_targets, images_of, latent_noise
from limbeck.engine.evaluations.picture_kinds import RECONSTRUCTIONS
from limbeck.engine.settings.checks import check_whole
from limbeck.engine.settings.precision import like_weights
from limbeck.engine.stages.fingerprints import fingerprint, weights_fingerprint
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed, seeded
from limbeck.errors import ReparameterizationError, SiteError
from limbeck.metrics import (
    ClassifierFeatures,
    FeatureExtractor,
    Measure,
    PictureKind,
    extract,
    frechet_distance,
    kernel_distance,
    throughput,
)
from limbeck.pictures import save_grid

__all__ = ["ImageEvaluation"]


class ImageEvaluation(Evaluation):
    """FID and KID of a model's images to the test data and to the teacher's images.

    Images are the means of the target's last conditional, clamped to [0, 1].

    Args:
        samples: images drawn from each model.
        extractor: a TorchScript file with the feature network, e.g. an Inception network with published weights; by
            default a small classifier trained once on the data's own labels.
        extractor_steps: training steps of that classifier.
        bound_samples: posterior draws per test image in the importance-weighted bound.
        bound_images: test images in that bound, and in the reconstruction error.
        grid: images in each model's grid.

    Raises:
        RecipeError: a number is too small, or the extractor is not there.
    """

    pictures: ClassVar[Sequence[PictureKind]] = (RECONSTRUCTIONS,)

    def __init__(
        self,
        samples: int = 10000,
        extractor: str | None = None,
        extractor_steps: int = EXTRACTOR_TRAINING.steps,
        bound_samples: int = 20,
        bound_images: int = 500,
        grid: int = 64,
    ) -> None:
        check_whole(2, "evaluation.", samples=samples)
        check_whole(1, "evaluation.", bound_samples=bound_samples, bound_images=bound_images, grid=grid)
        check_extractor(extractor, extractor_steps)
        self.samples = samples
        self.extractor = extractor
        self.extractor_steps = extractor_steps
        self.bound_samples = bound_samples
        self.bound_images = bound_images
        self.grid = grid

    @property
    @override
    def steps(self) -> int:
        return 0 if self.extractor else self.extractor_steps

    @override
    def measures(self, dataset: Dataset | None) -> list[Measure]:
        name = extractor_name(self.extractor, dataset)
        return [
            Measure("fid_data", f"FID ({name}) to test data", "lower", 1),
            Measure("fid_teacher", f"FID ({name}) to teacher", "lower", 1),
            Measure("kid_data", f"KID ({name}) to test data", "lower", 1),
            Measure("bound", f"test log-likelihood bound, K = {self.bound_samples}", "higher", 1, "nats"),
            Measure("reconstruction", "reconstruction error of test images, mean square per pixel", "lower", 5),
            PARAMETERS,
            INFERENCE_PARAMETERS,
            throughput_measure("images"),
            TRAIN_SECONDS,
        ]

    @override
    def judge(self, dataset: Dataset | None, teacher: DGM, cache: Path, seed: int, progress: Progress) -> ImageJudge:
        dataset = images_of(dataset)
        extractor = feature_extractor(self.extractor, self.extractor_steps, dataset, cache, progress)
        return ImageJudge(self, dataset, teacher, extractor, seed)

    @override
    def dry(self) -> Self:
        return self._with(samples=100, extractor_steps=4, bound_samples=2, bound_images=10)


class ImageJudge(Judge):
    """See :class:`ImageEvaluation`."""

    shown = "Images are the means of the last conditional, clamped to [0, 1]; the observation noise is not added."

    def __init__(
        self, settings: ImageEvaluation, dataset: ImageDataset, teacher: DGM, extractor: FeatureExtractor, seed: int
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.extractor = extractor
        self.teacher = teacher
        self.reference_key = fingerprint(teacher=model_key(teacher), extractor=weights_fingerprint(extractor))
        test, train = dataset.test.images, dataset.train.images
        self.test_images = as_float(test[: settings.bound_images])
        self.test_features = extract(extractor, test)
        rows = min(len(train), settings.samples)
        self.references = {
            f"real vs real: FID of {rows:,} training images to the test data": frechet_distance(
                extract(extractor, train[:rows]), self.test_features
            )
        }
        self.notes = [
            f"Distances are measured in the features of {extractor.name} between {settings.samples:,} images of a "
            f"model and the {len(test):,} test images; they are not comparable with distances in other features.",
            self.shown,
            "Distances to the teacher use images from independent noise on both sides.",
        ]
        if isinstance(extractor, ClassifierFeatures):
            right = accuracy(extractor, test, dataset.test.labels)
            self.notes.append(f"{extractor.name} labels {100 * right:.1f} % of the test images correctly.")

    @cached_property
    def teacher_features(self) -> Tensor:
        """Of the teacher's images, shape (samples, features); drawn on first use, since a finished run needs none."""
        return self._features(self.teacher, derive_seed(self.seed, "teacher samples"))

    @cached_property
    def grid_noise(self) -> Trace:
        """Noise of the images that are shown of every model."""
        return latent_noise(self.teacher, self.settings.grid, derive_seed(self.seed, "grid"))

    @override
    def measure(self, subject: Subject) -> dict[str, float]:
        model, settings = subject.model, self.settings
        values = self._distances(self._features(model, derive_seed(self.seed, "samples"))) | self._cost(model)
        if subject.infers and type(model).infer is not DGM.infer:
            dtype = first_parameter(model).dtype
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "bound"))
            parts = [
                importance_weighted_bound(model, images.to(dtype), samples=settings.bound_samples, generator=generator)
                for images in torch.split(self.test_images, 100)
            ]
            values["bound"] = torch.cat(parts).mean().item()
            rebuilt = reconstruct(model, self.test_images.to(dtype)).clamp(0, 1)
            values["reconstruction"] = (rebuilt - self.test_images).square().mean().item()
            save_grid(_beside(self.test_images, rebuilt, settings.grid), subject.directory / RECONSTRUCTIONS.file)
        save_grid(self._grid(model).numpy(), subject.directory / "samples.png")
        return values

    def _distances(self, features: Tensor) -> dict[str, float]:
        """Distances of a model's features, shape (rows, features), to those of the test data and of the teacher."""
        subset = min(1000, len(features), len(self.test_features))
        return {
            "fid_data": frechet_distance(features, self.test_features),
            "fid_teacher": frechet_distance(features, self.teacher_features),
            "kid_data": kernel_distance(features, self.test_features, subset_size=subset)[0],
        }

    def _cost(self, model: DGM) -> dict[str, float]:
        return {
            **parameter_counts(model, inference=True),
            "samples_per_second": throughput(model.sample, min(100, self.settings.samples)),
        }

    def _features(self, model: DGM, seed: int) -> Tensor:
        return torch.cat(
            [extract(self.extractor, images) for images in drawn_images(model, self.settings.samples, seed)]
        )

    def _grid(self, model: DGM) -> Tensor:
        return image_targets(self._on_grid(model))

    def _on_grid(self, model: DGM, temperature: float = 1.0) -> dict[str, Tensor]:
        """Targets of the draw that is shown of every model."""
        try:
            noise = {name: like_weights(model, eps) for name, eps in self.grid_noise.noise.items()}
            laws = self.grid_noise.laws
            return model.sample(noise=noise, laws=laws, output="mean", temperature=temperature)
        except (SiteError, ReparameterizationError):  # other latents: the picture is drawn from other noise
            with seeded(derive_seed(self.seed, "grid")):
                return model.sample(self.settings.grid, output="mean", temperature=temperature)


def _beside(images: Tensor, rebuilt: Tensor, grid: int) -> np.ndarray:
    """Images and their reconstructions, alternating: each image is left of its own reconstruction."""
    pairs = torch.stack([images, rebuilt.to(images.dtype)], dim=1)[: max(grid // 2, 1)]
    found: np.ndarray = pairs.flatten(0, 1).numpy()
    return found
