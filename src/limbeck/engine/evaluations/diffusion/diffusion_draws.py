"""Images of diffusion samplers: from recorded noise, of given classes, between noises, and of other sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.data import DomainDataset, ImageDataset
from limbeck.engine.evaluations.images.image_samples import image_targets
from limbeck.errors import RecipeError, SiteError
from limbeck.metrics import spherical_interpolation

__all__ = ["LATENT", "Sampler", "between", "class_conditions", "drawn", "from_noise", "larger"]

LATENT = "x_T"
"""The latent of a sampler: its first state, standard normal, so that its noise is its value."""


@runtime_checkable
class Sampler(Protocol):
    """What the measures of diffusion need to know of a model; :class:`limbeck.models.DDIM` is one.

    Its one latent is ``x_T``.

    Attributes:
        timesteps: times at which its network is evaluated, once each for every image.
        image_shape: channels, height and width.
        classes: number of classes that it is conditioned on; 0 for none.
    """

    timesteps: tuple[int, ...]
    image_shape: tuple[int, int, int]
    classes: int

    def resampled(self, **changes: Any) -> Self:
        """The same network at other times, or for images of another size."""


def class_conditions(model: DGM, dataset: ImageDataset, rows: int, seed: int) -> Tensor | None:
    """One-hot classes to draw images of, as frequent as among the test images.

    Args:
        model: any; only one of ``classes`` is conditional.
        dataset: its labels, or its domains where it has any, are the classes.
        rows: how many.
        seed: fixes them.

    Returns:
        Shape (rows, classes), or ``None`` for a model that is not conditional.

    Raises:
        RecipeError: the model has another number of classes than the data.
    """
    classes = getattr(model, "classes", 0)
    if not classes:
        return None
    one_hot = (
        dataset.test.domains
        if isinstance(dataset, DomainDataset)
        else F.one_hot(dataset.test.labels, len(dataset.classes)).float()
    )
    if one_hot.shape[1] != classes:
        raise RecipeError(
            f"the model draws images of {classes} classes, but {dataset.name} has {one_hot.shape[1]}; change "
            "num_class_embeds or the data"
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(one_hot), (rows,), generator=generator)
    return one_hot[chosen].to(first_parameter(model).dtype)


def drawn(
    model: DGM, rows: int, seed: int, batch: int, x: Tensor | None = None
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Images, and the noise that a sampler's come from.

    The noise of a sampler is drawn on the CPU, so that it is the same on every device.

    Args:
        model: any with one image among its targets.
        rows: how many.
        seed: fixes the noise.
        batch: largest number of images at a time.
        x: one-hot classes, shape (rows, classes), if the model has any.

    Yields:
        Noise ``x_T`` of a sampler (of others nothing), and images in [0, 1] on the CPU, shape (at most ``batch``,
        channels, height, width).
    """
    generator = torch.Generator().manual_seed(seed)
    parameter = first_parameter(model)
    for part in torch.arange(rows).chunk(-(-rows // batch)):
        given = None if x is None else x[part].to(parameter)
        noise = {}
        if isinstance(model, Sampler):
            noise = {LATENT: torch.randn(len(part), *model.image_shape, generator=generator).to(parameter.dtype)}
            targets = model.sample(x=given, noise={LATENT: noise[LATENT].to(parameter)}, output="mean")
        else:
            targets = model.sample(len(part), given, generator=generator, output="mean")
        yield noise, image_targets(targets).cpu()


def from_noise(model: DGM, noise: Mapping[str, Tensor], batch: int, x: Tensor | None = None) -> Tensor | None:
    """Images of given noise.

    Args:
        model: any with one image among its targets.
        noise: of each latent, shape (rows, ...).
        batch: largest number of rows at a time.
        x: one-hot classes, shape (rows, classes), if the model has any.

    Returns:
        Shape (rows, channels, height, width), in [0, 1], on the CPU; ``None`` if the model has other latents.
    """
    parameter = first_parameter(model)
    rows = len(next(iter(noise.values())))
    found = []
    for part in torch.split(torch.arange(rows), batch):
        own = {name: value[part].to(parameter) for name, value in noise.items()}
        given = None if x is None else x[part].to(parameter)
        try:
            images = model.sample(x=given, noise=own, output="mean")
        except SiteError:
            return None
        found.append(image_targets(images).cpu())
    return torch.cat(found)


def between(first: Mapping[str, Tensor], second: Mapping[str, Tensor], columns: int) -> dict[str, Tensor]:
    """Noise on the arc from one to another ([D] Sec. 4.2: spherical interpolation).

    Args:
        first: of each latent, shape (rows, ...).
        second: the same.
        columns: images of a row, from one end to the other, both included.

    Returns:
        Row by row, shape (rows * columns, ...).
    """
    found = {}
    for name, start in first.items():
        shares = torch.linspace(0, 1, columns, dtype=start.dtype, device=start.device).repeat(len(start))
        first_end, last_end = (value.repeat_interleave(columns, dim=0) for value in (start, second[name]))
        found[name] = spherical_interpolation(first_end, last_end, shares)
    return found


def larger(model: Sampler, size: int | list[int], rows: int, seed: int) -> tuple[DGM, dict[str, Tensor]]:
    """The model for images of another size than it was trained on ([D] Sec. 4.2), and noise of that size.

    Args:
        model: a sampler whose network takes images of any size.
        size: pixels a side, or height and width.
        rows: images that the noise is for.
        seed: fixes the noise, which is the same for every model.
    """
    other = model.resampled(image_size=size)
    assert isinstance(other, DGM)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(rows, *other.image_shape, generator=generator)
    return other, {LATENT: noise}
