"""Maps of what a student knows of the teacher's features, at several points of its training ([V] Fig. 2, 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load, save
from torch import Tensor
from typing_extensions import override

from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.core.objective.likelihood_maps import LikelihoodMap, likelihood_maps
from limbeck.core.stand_in import real_model
from limbeck.engine.settings.batches import chunks
from limbeck.engine.settings.options import Training
from limbeck.engine.training.module import StudentModule
from limbeck.files import atomic_write_bytes

__all__ = ["SHOWN", "SNAPSHOTS", "Snapshots", "read_snapshots", "shown_images", "snapshot"]

SNAPSHOTS = "snapshots.safetensors"
"""Name of the file beside a student."""

SHOWN = 2
"""Number of images that maps are made of."""

_IMAGE, _MAGNITUDE = "image", "magnitude"


def shown_images(rows: Batch | None) -> Tensor | None:
    """The first images of some rows, as the models get them, shape (images, ...); ``None`` if they are no images."""
    if rows is None or rows.x is None or rows.x.ndim != 4:
        return None
    return next(chunks(Batch(rows.y[:SHOWN], rows.x[:SHOWN]), SHOWN)).x


def snapshot(objective: Objective, teacher: DGM, student: DGM, images: Tensor) -> dict[str, LikelihoodMap]:
    """The likelihood maps of a student, on the CPU; see :mod:`limbeck.core.objective.likelihood_maps`."""
    like = first_parameter(student, images)
    found = likelihood_maps(objective, real_model(teacher), student, images.to(like))
    return {site: LikelihoodMap(one.likelihood.cpu(), one.magnitude.cpu()) for site, one in found.items()}


def read_snapshots(path: Path) -> tuple[Tensor, dict[str, Tensor], dict[float, dict[str, Tensor]]] | None:
    """What :class:`Snapshots` wrote.

    Returns:
        Three things: the images, shape (images, channels, height, width); site to magnitude of the teacher's feature;
        and fraction of the training to site to log-likelihood, each map of shape (images, height, width). ``None`` if
        there is no such file.
    """
    try:
        tensors = load(path.read_bytes())
    except OSError:
        return None
    magnitudes, times = dict[str, Tensor](), dict[float, dict[str, Tensor]]()
    for name in sorted(tensors):
        kind, _, site = name.partition("|")
        if kind == _MAGNITUDE:
            magnitudes[site] = tensors[name]
        elif kind != _IMAGE:
            times.setdefault(float(kind), {})[site] = tensors[name]
    return tensors[_IMAGE], magnitudes, dict(sorted(times.items()))


class Snapshots(Callback):
    """Writes likelihood maps of a few images at the points of a training that its options name.

    Args:
        path: the file; each point adds to it.
        teacher: the frozen model.
        images: what the maps are made of, shape (images, channels, height, width).
        options: of the training.
    """

    def __init__(self, path: Path, teacher: DGM, images: Tensor, options: Training) -> None:
        self._path = path
        self._teacher = teacher
        self._images = images
        self._points = {round(fraction * options.steps): fraction for fraction in options.snapshots}

    @override
    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Make maps before the first step; the file of an earlier training is deleted."""
        if trainer.global_step == 0 and trainer.is_global_zero:
            self._path.unlink(missing_ok=True)
        self._add(trainer, module)

    @override
    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        """Make maps after the steps that the options name."""
        self._add(trainer, module)

    @torch.no_grad()
    def _add(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        assert isinstance(module, StudentModule)
        fraction = self._points.get(trainer.global_step)
        if fraction is None or not trainer.is_global_zero:
            return
        found = snapshot(module.objective, self._teacher, module.student, self._images)
        if not found:
            return
        tensors = load(self._path.read_bytes()) if self._path.exists() else {}
        tensors[_IMAGE] = self._images.float().contiguous()
        for site, one in found.items():
            tensors[f"{_MAGNITUDE}|{site}"] = one.magnitude.contiguous()
            tensors[f"{fraction}|{site}"] = one.likelihood.contiguous()
        atomic_write_bytes(self._path, save(tensors))
