"""Likelihood maps of a student without transfer: its method's divergences are fitted to it after its training."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from safetensors.torch import load, save
from torch import Tensor
from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.core.stand_in import StandIn
from limbeck.engine.evaluations.heat_maps import save_likelihoods
from limbeck.engine.evaluations.picture_kinds import LIKELIHOODS
from limbeck.engine.experiments.recipe import Recipe
from limbeck.engine.experiments.tasks import Task
from limbeck.engine.experiments.teacher import Teacher
from limbeck.engine.settings.checks import learns_observations
from limbeck.engine.settings.options import Training
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.objective_description import describe_objective
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.ranks import is_main_process
from limbeck.engine.stages.stage import Stage
from limbeck.engine.training.fit import fit
from limbeck.engine.training.snapshots import SNAPSHOTS, read_snapshots, snapshot
from limbeck.errors import NonFiniteLossError
from limbeck.files import atomic_write_bytes

__all__ = ["Finished", "draw_likelihoods", "likelihood_steps", "without_transfer"]

_NAME = "afterwards"  # of the record and of the file of maps; existing runs have files of this name


class Finished(StandIn):
    """A trained model that learns nothing more: neither its weights nor its statistics can change.

    Args:
        source: the model; a copy is taken.
    """

    def __init__(self, source: DGM) -> None:
        super().__init__(copy.deepcopy(source).eval().requires_grad_(False))
        self.eval()

    @override
    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)


def without_transfer(recipe: Recipe, method: str) -> str | None:
    """The method that trains a student of the same architecture without the teacher; ``None`` if there is none."""
    student = recipe.student_of(method).config
    for other, baseline in recipe.methods.items():
        same = recipe.student_of(other).config == student and recipe.start_of(other) == "random"
        if same and not baseline.objective.needs_teacher:
            return other
    return None


def likelihood_steps(recipe: Recipe) -> int:
    """Optimiser steps of :func:`draw_likelihoods`."""
    if not recipe.training.snapshots:
        return 0
    compared = [method for method in _observing(recipe) if without_transfer(recipe, method) is not None]
    return len(compared) * recipe.training.steps


def _observing(recipe: Recipe) -> list[str]:
    """The methods that learn an observation model, of which there can be snapshots."""
    return [method for method, baseline in recipe.methods.items() if learns_observations(baseline.objective)]


def draw_likelihoods(
    recipe: Recipe,
    models: Mapping[str, DGM],
    task: Task,
    teacher: Teacher,
    directory: Path,
    progress: Progress,
) -> None:
    """Draw the snapshots of the first seed's students next to those of a student without transfer.

    Args:
        recipe: the experiment; its choices are made.
        models: method to its student of the first seed.
        task: what these learned.
        teacher: the one that they learned from.
        directory: the run directory.
        progress: receives steps.
    """
    if not recipe.training.snapshots:
        return
    for method in _observing(recipe):
        folder = directory / "students" / method / str(recipe.seed)
        found = read_snapshots(folder / SNAPSHOTS)
        if found is None:  # they are no part of a fingerprint: nobody wants to train again for pictures
            progress.message(
                f"{method}: there are no snapshots, since this student was trained before training.snapshots asked for "
                f"them; delete {folder} and run again to train it with them"
            )
            continue
        images, magnitudes, times = found
        other = without_transfer(recipe, method)
        fitted = None
        if other is not None:
            fitted = _fitted(recipe, method, models[other], other, task, teacher, folder, images, progress)
        if is_main_process():
            save_likelihoods(folder / LIKELIHOODS.file, images, magnitudes, times, fitted)


def _fitted(
    recipe: Recipe,
    method: str,
    model: DGM,
    other: str,
    task: Task,
    teacher: Teacher,
    folder: Path,
    images: Tensor,
    progress: Progress,
) -> dict[str, Tensor] | None:
    """Log-likelihoods of a method's divergences for a finished student, fitted for as many steps as a student has."""
    training = _without_validation(recipe.training_of(method))
    objective = copy.deepcopy(recipe.methods[method].objective)
    key = fingerprint(
        student=model_key(model), objective=describe_objective(objective), training=training.essential(),
        teacher=teacher.key, rows=[task.key, recipe.per_class], seed=recipe.seed, precision=recipe.trainer.precision,
    )  # fmt: skip
    record, label = Stage(folder, _NAME, key), f"{method}'s divergences, for {other}"
    file = folder / f"{_NAME}.safetensors"
    if record.result is not None:
        progress.skip(label, training.steps)
        return load(file.read_bytes()) or None
    student = Finished(model)
    try:
        fit(student, objective, training, teacher=teacher.prepared, data=task.rows, seed=recipe.seed,
            trainer=recipe.trainer, progress=progress, label=label)  # fmt: skip
    except NonFiniteLossError as error:  # a missing picture must not stop a run whose students are all trained
        progress.message(f"{label}: {error}")
        return None
    found = snapshot(objective.cpu(), teacher.prepared, student, images)
    maps = {site: one.likelihood.contiguous() for site, one in found.items()}
    if is_main_process():
        atomic_write_bytes(file, save(maps))
        record.finish({})
    return maps


def _without_validation(training: Training) -> Training:
    return dataclasses.replace(training, snapshots=(), validate_every=None, validate_on=None, patience=None)
