"""What all evaluations of images have in common: the data, and the images that a model draws."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.core.precision import precise
from limbeck.core.trace import KEEP_NOISE, Kind, Trace, keep_fields
from limbeck.data import Dataset, ImageDataset
from limbeck.errors import ModelError, RecipeError

__all__ = ["drawn_images", "image_targets", "images_of", "latent_noise"]

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


def image_targets(targets: dict[str, Tensor]) -> Tensor:
    """The one image among a model's targets, clamped to [0, 1], in single precision or better.

    Raises:
        ModelError: there is not exactly one target of shape (batch, 1 or 3, height, width), or it is not finite.
    """
    images = [value for value in targets.values() if value.ndim == 4 and value.shape[1] in (1, 3)]
    if len(images) != 1:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in targets.items())
        raise ModelError(f"expected one target that is an image (batch, 1 or 3, height, width), but found: {shapes}")
    if not bool(torch.isfinite(images[0]).all()):
        raise ModelError("the model draws images with NaN or infinite pixels; its weights are broken")
    return precise(images[0]).clamp(0, 1)


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
        given = None if x is None else x.to(first_parameter(model).dtype).expand(rows, *x.shape)
        yield image_targets(model.sample(rows, given, generator=generator, output="mean"))


@torch.no_grad()
def latent_noise(model: DGM, rows: int, seed: int, x: Tensor | None = None) -> Trace:
    """A run of which the noise of every latent and its law are kept, for pictures of the same draw from several models.

    Args:
        model: the one whose latents' shapes are taken.
        rows: how many.
        seed: fixes the noise.
        x: conditioning input of all rows, without batch dimension.
    """
    generator = torch.Generator().manual_seed(seed)
    given = None if x is None else x.to(first_parameter(model).dtype).expand(rows, *x.shape)
    return model.trace(rows, given, keep=keep_fields(KEEP_NOISE, Kind.LATENT), generator=generator)
