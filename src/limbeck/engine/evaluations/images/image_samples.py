"""What all evaluations of images have in common: the data, the ruler, and the images that a model draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.core.trace import KEEP_NOISE, KEEP_NOTHING, Kind
from limbeck.data import Dataset, ImageDataset
from limbeck.engine.evaluations.images.extractor import EXTRACTOR_TRAINING, trained_extractor
from limbeck.engine.settings.checks import check_whole
from limbeck.engine.stages.progress import Progress
from limbeck.errors import ModelError, RecipeError
from limbeck.metrics import FeatureExtractor, TorchScriptFeatures

__all__ = [
    "check_extractor",
    "drawn_images",
    "extractor_name",
    "feature_extractor",
    "floating_type",
    "image_targets",
    "images_of",
    "latent_noise",
]

_ROWS = 500  # at most, in one draw


def images_of(dataset: Dataset | None) -> ImageDataset:
    """The data set, if it is one of images.

    Raises:
        RecipeError: it is not, or there is none.
    """
    if not isinstance(dataset, ImageDataset):
        found = "there is no data" if dataset is None else f"{dataset.name!r} is a {type(dataset).__name__}"
        raise RecipeError(
            f"this evaluation measures models of images or their labels, but {found}; change data or evaluation"
        )
    return dataset


def check_extractor(path: str | None, steps: int) -> None:
    """Refuse settings of the ruler that cannot be used, before models are trained that it shall measure.

    Args:
        path: a TorchScript file, or ``None``.
        steps: training steps of the classifier that stands in for it.

    Raises:
        RecipeError: there is no such file, or the number is below 1.
    """
    check_whole(1, "evaluation.", extractor_steps=steps)
    if path is not None and not Path(path).is_file():
        raise RecipeError(f"evaluation.extractor: there is no file {path}; check the path")


def extractor_name(path: str | None, dataset: Dataset | None) -> str:
    """What the ruler is called in tables, before it is there."""
    return Path(path).stem if path else f"{images_of(dataset).name}-cnn"


def feature_extractor(
    path: str | None, steps: int, dataset: ImageDataset, cache: Path, progress: Progress, number: int = 1
) -> FeatureExtractor:
    """The ruler: a network from a file, or the data's own classifier, trained once.

    Args:
        path: a TorchScript file, or ``None``.
        steps: training steps of the classifier.
        dataset: labelled images.
        cache: where trained classifiers are kept.
        progress: told the steps.
        number: which of the classifiers that differ in their seed.

    Raises:
        DataError: the data has no labels to train on.
        ModelError: the file is no feature network.
    """
    if path is not None:
        return TorchScriptFeatures(path)
    training = dataclasses.replace(EXTRACTOR_TRAINING, steps=steps)
    return trained_extractor(dataset, cache / "extractors", progress, training, number)


def image_targets(targets: dict[str, Tensor]) -> Tensor:
    """The one image among a model's targets, clamped to [0, 1].

    Raises:
        ModelError: there is not exactly one target of shape (batch, 1 or 3, height, width), or it is not finite.
    """
    images = [value for value in targets.values() if value.ndim == 4 and value.shape[1] in (1, 3)]
    if len(images) != 1:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in targets.items())
        raise ModelError(f"expected one target that is an image (batch, 1 or 3, height, width), but found: {shapes}")
    if not bool(torch.isfinite(images[0]).all()):
        raise ModelError("the model draws images with NaN or infinite pixels; its weights are broken")
    return images[0].clamp(0, 1)


def floating_type(model: DGM) -> torch.dtype:
    """The precision of a model's weights."""
    return next((parameter.dtype for parameter in model.parameters()), torch.float32)


def drawn_images(model: DGM, samples: int, seed: int, x: Tensor | None = None) -> Iterator[Tensor]:
    """Images of a model, in batches of nearly equal size; the means of its last conditional.

    Args:
        model: any with one image among its targets.
        samples: how many.
        seed: fixes the noise.
        x: conditioning input of all of them, without batch dimension.

    Yields:
        Images in [0, 1], shape (at most 500, channels, height, width).
    """
    generator = torch.Generator().manual_seed(seed)
    for part in torch.arange(samples).chunk(-(-samples // _ROWS)):
        rows = len(part)
        given = None if x is None else x.to(floating_type(model)).expand(rows, *x.shape)
        yield image_targets(model.sample(rows, given, generator=generator, output="mean"))


@torch.no_grad()
def latent_noise(model: DGM, rows: int, seed: int, x: Tensor | None = None) -> dict[str, Tensor]:
    """Noise of every latent, for pictures of the same draw from several models.

    Args:
        model: the one whose latents' shapes are taken.
        rows: how many.
        seed: fixes the noise.
        x: conditioning input of all rows, without batch dimension.
    """
    generator = torch.Generator().manual_seed(seed)
    keep = {Kind.LATENT: KEEP_NOISE}
    given = None if x is None else x.to(floating_type(model)).expand(rows, *x.shape)
    return model.trace(rows, given, keep=lambda name, kind: keep.get(kind, KEEP_NOTHING), generator=generator).noise
