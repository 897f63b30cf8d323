"""Measures one model of a diffusion experiment after the other; see :class:`limbeck.engine.DiffusionEvaluation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.data import ImageDataset
from limbeck.engine.evaluations.diffusion.diffusion_draws import Sampler, class_conditions, drawn, from_noise
from limbeck.engine.evaluations.diffusion.diffusion_pictures import Pictures
from limbeck.engine.evaluations.diffusion.diffusion_variants import Variants
from limbeck.engine.evaluations.evaluation import Subject, parameter_counts
from limbeck.engine.evaluations.images.image_evaluation import ImageJudge
from limbeck.engine.settings.placement import chosen_device, placed
from limbeck.engine.stages.seeding import derive_seed
from limbeck.metrics import (
    ClassifierFeatures,
    FeatureExtractor,
    closeness,
    extract,
    frechet_distance,
    inception_score,
    nearest,
    similarity_window,
    structural_similarity,
    throughput,
)

if TYPE_CHECKING:
    from limbeck.engine.evaluations.diffusion.diffusion_evaluation import DiffusionEvaluation

__all__ = ["SPLITS", "DiffusionJudge", "Reference"]

SPLITS = 10
"""Parts of the images in the Inception score."""

_COMPARED = 2000  # images, at most, whose distance to the training images is measured
_WINDOWS = 3  # in which the speed is timed


@dataclass(frozen=True)
class Reference:
    """Images of a model as they are compared with others.

    Attributes:
        features: of each extractor, shape (images, features).
        noise: of the latents of the first images, shape (pairs, ...); empty if the model is no sampler.
        images: the first images, shape (pairs, channels, height, width).
    """

    features: list[Tensor]
    noise: dict[str, Tensor]
    images: Tensor


class DiffusionJudge(ImageJudge):
    """See :class:`DiffusionEvaluation`."""

    settings: DiffusionEvaluation
    shown = "Images are clamped to [0, 1]."

    def __init__(
        self,
        settings: DiffusionEvaluation,
        dataset: ImageDataset,
        teacher: DGM,
        extractors: list[FeatureExtractor],
        seed: int,
    ) -> None:
        self.device = chosen_device(settings.device)
        for extractor in extractors:
            extractor.to(self.device)
        super().__init__(settings, dataset, teacher, extractors[0], seed)
        self.dataset = dataset
        self.extractors = extractors
        self.second_test_features = [extract(extractor, dataset.test.images) for extractor in extractors[1:]]
        self.pictures = Pictures(settings, dataset, teacher, seed, self.device)
        score = self._score(self.test_features)
        if score:
            label = next(one.label for one in settings.measures(dataset) if one.key == "inception_score")
            self.references[f"test images: {label}"] = score["inception_score"]
        self.notes += self._more_notes()

    @override
    def variants(self) -> Mapping[str, DGM]:
        """The teacher with fewer steps; see :class:`Judge`."""
        return Variants(self.teacher, self.settings.steps_shown, self.settings.spacing)

    @override
    def measure(self, subject: Subject) -> dict[str, float]:
        model, settings = subject.model, self.settings
        itself = model is self.teacher
        with placed(model, self.device):
            if itself:
                features = self.reference.features
            else:
                samples = settings.teacher_samples if subject.variant else settings.samples
                features = self._seen(model, samples, "samples").features
            values = self._distances(features[0]) | self._score(features[0]) | self._nearness(features[0])
            for own, real in zip(features[1:], self.second_test_features, strict=True):
                values["fid_second"] = frechet_distance(own, real)
            if itself:
                del values["fid_teacher"]
            else:
                values |= self._likeness(model)
            values |= self._cost(model)
            self.pictures.save(model, subject.directory, brief=subject.variant)
        if not subject.variant:
            shown = self.pictures.images(model)
            around = nearest(extract(self.extractor, shown), self.training_features, self.pictures.neighbours)[1]
            self.pictures.save_neighbours(shown, around, subject.directory)
        return values

    @cached_property
    def reference(self) -> Reference:
        """The teacher's images, drawn once and only if anything is left to be measured."""
        with placed(self.teacher, self.device):
            return self._seen(self.teacher, self.settings.teacher_samples, "teacher samples")

    @cached_property
    @override
    def teacher_features(self) -> Tensor:
        """Shape (teacher_samples, features)."""
        return self.reference.features[0]

    @cached_property
    def training_features(self) -> Tensor:
        """Of the training images among which neighbours are searched, shape (training images, features)."""
        return extract(self.extractor, self.dataset.train.images[: self.settings.neighbours])

    @cached_property
    def _held_out(self) -> Tensor:
        """Distance of each test image to its nearest training image."""
        return nearest(self.test_features[:_COMPARED], self.training_features)[0][:, 0]

    def _seen(self, model: DGM, samples: int, purpose: str) -> Reference:
        """Draw images of a model and keep what is measured: features, and the first images with their noise."""
        seed, pairs = derive_seed(self.seed, purpose), self.settings.pairs
        features: list[list[Tensor]] = [[] for _ in self.extractors]
        noises: dict[str, list[Tensor]] = {}
        images: list[Tensor] = []
        x = class_conditions(model, self.dataset, samples, seed)
        for noise, part in drawn(model, samples, seed, self.settings.batch, x):
            for found, extractor in zip(features, self.extractors, strict=True):
                found.append(extract(extractor, part))
            if sum(map(len, images)) < pairs:
                images.append(part)
                for name, value in noise.items():
                    noises.setdefault(name, []).append(value)
        kept = {name: torch.cat(parts)[:pairs] for name, parts in noises.items()}
        return Reference([torch.cat(found) for found in features], kept, torch.cat(images)[:pairs])

    def _likeness(self, model: DGM) -> dict[str, float]:
        """To the teacher, image by image from the same noise; empty if the model has other latents."""
        noise, images = self.reference.noise, self.reference.images
        if not noise:
            return {}
        x = class_conditions(
            self.teacher, self.dataset, self.settings.teacher_samples, derive_seed(self.seed, "teacher samples")
        )
        own = from_noise(model, noise, self.settings.batch, None if x is None else x[: len(images)])
        if own is None or own.shape != images.shape:
            return {}
        return {
            "mse_teacher": (own - images).square().mean().item(),
            "ssim_teacher": structural_similarity(own, images).mean().item(),
        }

    def _score(self, features: Tensor) -> dict[str, float]:
        """Inception score of images, from their features, if the extractor is a classifier."""
        if not isinstance(self.extractor, ClassifierFeatures):
            return {}
        with torch.no_grad():
            logits = self.extractor.head(features.to(self.device)).cpu()
        score, spread = inception_score(logits, splits=min(SPLITS, len(logits) // 2), seed=self.seed % 2**32)
        return {"inception_score": score, "inception_score_spread": spread}

    def _nearness(self, features: Tensor) -> dict[str, float]:
        """How near to the training images they are."""
        distances = nearest(features[:_COMPARED], self.training_features)[0][:, 0]
        found = closeness(distances, self._held_out)
        return {"nearest_closer": 100 * found.closer, "nearest_ratio": found.ratio}

    @override
    def _cost(self, model: DGM) -> dict[str, float]:
        rows = min(self.settings.batch, self.settings.samples)
        x = class_conditions(model, self.dataset, rows, derive_seed(self.seed, "speed"))
        x = None if x is None else x.to(self.device)
        found = {
            **parameter_counts(model),
            "samples_per_second": throughput(lambda count: model.sample(count, x), rows, repeats=_WINDOWS),
        }
        if isinstance(model, Sampler):
            found["network_evaluations"] = float(len(model.timesteps))
        return found

    def _more_notes(self) -> list[str]:
        settings, name = self.settings, self.extractor.name
        found = [
            f"Steps are evaluations of the network for one image. The rows 'teacher, n steps' are the teacher's own "
            f"sampler at n {settings.spacing} times, without any training.",
            f"Squared error (per pixel) and SSIM (Gaussian window of {similarity_window(*self.test_images.shape[2:])} "
            f"pixels) are means over {settings.pairs:,} pairs of images in [0, 1], a model's and the teacher's of "
            "the same noise.",
            f"Speed: images are drawn {min(settings.batch, settings.samples):,} at a time on {self.device.type}.",
            f"Memorisation: in the features of {name}, distance of at most {_COMPARED:,} images to the nearest of "
            f"{min(settings.neighbours, len(self.dataset.train)):,} training images. Of new real images, 1 % would be "
            "nearer to a training image than 99 % of the test images are. A far larger share means copies, or images "
            "that are more typical than real ones; the pictures of the neighbours show which.",
        ]
        if settings.teacher_samples != settings.samples:
            found.append(
                f"Rows of the teacher are measured on {settings.teacher_samples:,} images, and those of students on "
                f"{settings.samples:,}; FID falls with the number of images."
            )
        if len(self.extractors) > 1:
            found.append(
                f"{self.extractors[1].name} is the same classifier trained from another seed: no method has seen it."
            )
        if not isinstance(self.extractor, ClassifierFeatures):
            found.append(f"No Inception score: {name} is a file of features, and has no classes.")
        return found
