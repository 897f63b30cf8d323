"""How the models of a run are measured: an interface that each kind of experiment fills in."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from limbeck.core.first_parameter import first_parameter
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.data import Dataset
from limbeck.engine.settings.batches import chunks
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import seeded
from limbeck.metrics import Measure, PictureKind, parameter_count

__all__ = [
    "INFERENCE_PARAMETERS",
    "LEARNED_PARAMETERS",
    "PARAMETERS",
    "TRAIN_SECONDS",
    "Evaluation",
    "Judge",
    "Subject",
    "parameter_counts",
    "throughput_measure",
]

_SCORED = 256  # rows at a time

PARAMETERS = Measure("parameters_generative", "generative parameters", "lower", 0, kind="cost")
INFERENCE_PARAMETERS = Measure("parameters_inference", "inference parameters", "neither", 0, kind="cost")

LEARNED_PARAMETERS = Measure("parameters_objective", "parameters learned beside", "neither", 0, kind="cost")
"""Those of the objective, which only the training needs; counted by the training itself."""

TRAIN_SECONDS = Measure("train_seconds", "training time", "lower", 0, "s", kind="cost")
"""Measured by the training itself, not by a :class:`Judge`."""


def throughput_measure(unit: str, note: str = "") -> Measure:
    """How many images, drawings, ... a model makes or answers per second.

    Args:
        unit: what is counted, in the plural.
        note: appended to the label, e.g. ``", 12 draws"``.
    """
    return Measure("samples_per_second", f"{unit} per second{note}", "higher", 0, kind="cost")


def parameter_counts(model: DGM, *, inference: bool = False) -> dict[str, float]:
    """The values of :data:`PARAMETERS` and, if asked for, of :data:`INFERENCE_PARAMETERS`."""
    found = {PARAMETERS.key: float(parameter_count(model.generative_parameters()))}
    if inference:
        found[INFERENCE_PARAMETERS.key] = float(parameter_count(model.inference_parameters()))
    return found


@dataclass(frozen=True)
class Subject:
    """One model to be measured.

    Attributes:
        model: the model, in eval mode.
        directory: where its pictures go.
        infers: whether its inference program was trained, so that likelihoods mean something.
        history: the models after each task, if tasks are learned in turn; the last of them is ``model``.
        variant: whether it is one of :meth:`Judge.variants`.
    """

    model: DGM
    directory: Path
    infers: bool
    history: tuple[DGM, ...] = ()
    variant: bool = False


class Judge(ABC):
    """Measures models against one data set and one teacher; made by :meth:`Evaluation.judge`."""

    references: dict[str, float]
    notes: list[str]
    seed: int
    reference_key: str
    """Changes when what models are measured against changes: teacher, extractor."""

    @abstractmethod
    def measure(self, subject: Subject) -> dict[str, float]:
        """Measure a model and write its pictures.

        Args:
            subject: the model.

        Returns:
            Measure key to value, for keys in :attr:`Evaluation.measures`.
        """

    def variants(self) -> Mapping[str, DGM]:
        """Models that are measured though the run does not train them, such as the teacher with fewer steps.

        Returns:
            Label of the row to model; empty by default.
        """
        return {}


class Evaluation(ABC):
    """Settings of an evaluation; plain constructor arguments, so that a recipe can name them."""

    score_label: ClassVar[str] = "loss"
    """What :meth:`score` is, for messages and notes."""

    pictures: ClassVar[Sequence[PictureKind]] = ()
    """What :meth:`Judge.measure` may draw besides ``samples.png``; reports show it in this order."""

    @property
    def steps(self) -> int:
        """Optimiser steps that :meth:`judge` may take, for the estimate of the remaining time."""
        return 0

    def score(self, model: DGM, rows: Batch) -> float:
        """How badly a model does on rows that it was not trained on: the criterion by which weights are chosen.

        By default the model's own loss.

        Args:
            model: in eval mode.
            rows: held out of the training rows.

        Returns:
            Lower is better.
        """
        like = first_parameter(model)
        total = 0.0
        with seeded(0), frozen(model):
            for part in chunks(rows, _SCORED):
                y, x = part.y.to(like) if part.y.is_floating_point() else part.y, part.x
                x = x.to(like) if x is not None and x.is_floating_point() else x
                total += float(model.loss(Batch(y, x)).total) * len(part)
        return total / len(rows)

    @abstractmethod
    def measures(self, dataset: Dataset | None) -> list[Measure]:
        """The columns of the table."""

    @abstractmethod
    def judge(self, dataset: Dataset | None, teacher: DGM, cache: Path, seed: int, progress: Progress) -> Judge:
        """Prepare everything that all models of a run are measured against.

        Args:
            dataset: real data, if the recipe names any; numbers are reported on its test split.
            teacher: the trained teacher.
            cache: directory for what can be used again by other runs.
            seed: fixes samples and noise; the same for every model.
            progress: informed of what takes long.
        """

    @abstractmethod
    def dry(self) -> Self:
        """The same evaluation on few samples, for a dry run."""

    def _with(self, **changes: Any) -> Self:
        """A copy in which some settings are others."""
        found = copy.copy(self)
        vars(found).update(changes)
        return found
