"""Pictures of diffusion samplers: beside the teacher's, between noises, at another size, with neighbours ([D])."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.data import ImageDataset, as_float
from limbeck.engine.evaluations.diffusion.diffusion_draws import (
    LATENT,
    Sampler,
    between,
    class_conditions,
    drawn,
    from_noise,
    larger,
)
from limbeck.engine.evaluations.picture_kinds import BESIDE_TEACHER, BETWEEN_NOISES, LARGER, NEIGHBOURS
from limbeck.engine.settings.placement import placed
from limbeck.engine.stages.seeding import derive_seed
from limbeck.pictures import save_grid

if TYPE_CHECKING:
    from limbeck.engine.evaluations.diffusion.diffusion_evaluation import DiffusionEvaluation

__all__ = ["Pictures"]

_COLUMNS = 8
_APART = 112 / 255  # a tile of this grey looks like the lines of a grid


class Pictures:
    """Draws the same pictures of every model; the teacher's part of them is drawn once, when it is first needed.

    Args:
        settings: how many images, of which other size, how many at a time.
        dataset: for the classes of conditional models, and for neighbours.
        teacher: whose row stands above that of each student.
        seed: fixes the noise of all pictures.
        device: where the teacher's images are drawn; those of other models where the model is.
    """

    neighbours = _COLUMNS - 2
    """Training images beside each generated one."""

    def __init__(
        self, settings: DiffusionEvaluation, dataset: ImageDataset, teacher: DGM, seed: int, device: torch.device
    ) -> None:
        self.settings = settings
        self.dataset = dataset
        self.teacher = teacher
        self.seed = seed
        self.device = device
        self.columns = min(_COLUMNS, settings.grid)
        self.rows = max(1, settings.grid // (2 * _COLUMNS))

    def save(self, model: DGM, directory: Path, *, brief: bool = False) -> None:
        """Write a model's pictures.

        ``samples.png`` of every model; of samplers also ``beside_teacher.png``, ``between_noises.png``, ``larger.png``.

        Args:
            model: any model of images.
            directory: where to.
            brief: only the first.
        """
        images = self.images(model)
        self._write(images, directory / "samples.png")
        if brief or not isinstance(model, Sampler):
            return
        itself = model is self.teacher
        beside = isinstance(self.teacher, Sampler) and self.teacher.image_shape == model.image_shape and not itself
        if beside:
            shown = self.rows * self.columns
            self._write(images[:shown], directory / BESIDE_TEACHER.file, below=self._teachers_images[:shown])
        on_the_way = self._teachers_between if itself else self._between(model)
        self._write(on_the_way, directory / BETWEEN_NOISES.file, below=self._teachers_between if beside else None)
        if self.settings.larger is not None:
            others = self._teachers_larger if itself else self._larger(model)
            self._write(others, directory / LARGER.file, below=self._teachers_larger if beside else None)

    def images(self, model: DGM) -> Tensor:
        """The images that are shown of a model, shape (grid, channels, height, width); of samplers from one noise."""
        if model is self.teacher:
            return self._teachers_images
        return self._images(model)

    def save_neighbours(self, images: Tensor, around: Tensor, directory: Path) -> None:
        """Write ``neighbours.png``: a row for each generated image, which is followed by its nearest training images.

        Args:
            images: shape (images, channels, height, width).
            around: row numbers of training images, shape (images, neighbours).
            directory: where to.
        """
        rows = min(len(images), _COLUMNS)
        train = as_float(self.dataset.train.images[around[:rows].flatten()]).view(rows, -1, *images.shape[1:])
        apart = torch.full_like(images[:rows, None], _APART)
        tiles = torch.cat([images[:rows, None], apart, train], dim=1)
        save_grid(tiles.flatten(0, 1).numpy(), directory / NEIGHBOURS.file, columns=tiles.shape[1])

    @cached_property
    def _teachers_images(self) -> Tensor:
        with placed(self.teacher, self.device):
            return self._images(self.teacher)

    @cached_property
    def _teachers_between(self) -> Tensor:
        with placed(self.teacher, self.device):
            return self._between(self.teacher)

    @cached_property
    def _teachers_larger(self) -> Tensor:
        with placed(self.teacher, self.device):
            return self._larger(self.teacher)

    def _images(self, model: DGM) -> Tensor:
        seed, grid = self._seed("grid"), self.settings.grid
        x = class_conditions(model, self.dataset, grid, seed)
        return torch.cat([images for _, images in drawn(model, grid, seed, self.settings.batch, x)])

    def _between(self, model: DGM) -> Tensor:
        """Rows of images from one noise to another; the class, if any, is that of the row."""
        assert isinstance(model, Sampler)
        ends = [self._noise(model.image_shape, purpose) for purpose in ("between, first", "between, second")]
        x = class_conditions(model, self.dataset, self.rows, self._seed("between"))
        x = None if x is None else x.repeat_interleave(self.columns, dim=0)
        noise = between({LATENT: ends[0]}, {LATENT: ends[1]}, self.columns)
        return self._from(model, noise, x)

    def _larger(self, model: DGM) -> Tensor:
        assert isinstance(model, Sampler)
        assert self.settings.larger is not None
        rows, seed = self.rows * self.columns, self._seed("larger")
        other, noise = larger(model, self.settings.larger, rows, seed)
        return self._from(other, noise, class_conditions(model, self.dataset, rows, seed))

    def _from(self, model: DGM, noise: dict[str, Tensor], x: Tensor | None) -> Tensor:
        found = from_noise(model, noise, self.settings.batch, x)
        assert found is not None
        return found

    def _noise(self, shape: tuple[int, int, int], purpose: str) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed(purpose))
        return torch.randn(self.rows, *shape, generator=generator)

    def _write(self, images: Tensor, path: Path, below: Tensor | None = None) -> None:
        """A grid, its rows below those of other images if there are any."""
        rows = images if below is None else _by_turns(below, images, self.columns)
        save_grid(rows.numpy(), path, columns=self.columns)

    def _seed(self, purpose: str) -> int:
        return derive_seed(self.seed, purpose)


def _by_turns(first: Tensor, second: Tensor, columns: int) -> Tensor:
    """A grid of alternating rows: one of the first images, one of the second."""
    parts = zip(torch.split(first, columns), torch.split(second, columns), strict=True)
    return torch.cat([row for pair in parts for row in pair])
