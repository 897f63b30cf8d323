"""Couplings: how the student's run is tied to the teacher's.

A coupling runs both programs once ([U] Alg. 1 is one pass over the graph) and returns the sites that the matches ask
for. The teacher always runs without gradients and in eval mode: its statistics never change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from limbeck.core.graph import DGM
from limbeck.core.trace import Keep, Kind, Trace

__all__ = [
    "Coupling",
    "Observing",
    "Preparable",
    "Request",
    "coupling_parts",
    "is_scheduled",
    "needs_data",
    "prepare_coupling",
    "runs_inference",
]


@dataclass(frozen=True)
class Request:
    """What an objective asks of a coupling.

    Attributes:
        batch_size: number of rows; ``None`` if it is that of ``x``.
        x: conditioning input, shape (batch, ...), shared by both models.
        keep_teacher: sites whose distribution the matches need from the teacher.
        keep_student: given the teacher's trace, the same for the student.
        rename: name and kind of a teacher site to the name of the student's.
        generator: source of fresh noise.
        progress: fraction of training that is done, in [0, 1].
        y: targets of the batch of data, shape (batch, ...), for couplings that need rows of data.
    """

    batch_size: int | None
    x: Tensor | None
    keep_teacher: Keep
    keep_student: Callable[[Trace], Keep]
    rename: Callable[[str, Kind], str]
    generator: torch.Generator | None = None
    progress: float = 1.0
    y: Tensor | None = None


class Coupling(Protocol):
    """Runs the teacher, then the student tied to it."""

    def __call__(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """Returns the traces of the teacher and of the student, with the distributions that the request names."""
        ...


@runtime_checkable
class Preparable(Protocol):
    """A coupling that must see both models before the training, such as one with parameters to be sized."""

    def prepare(self, teacher: DGM, student: DGM, x: Tensor | None = None) -> None:
        """Make the parameters; called before the optimiser is made. A second call does not reset what was trained.

        Args:
            teacher: the frozen model.
            student: the model to train.
            x: a few rows of conditioning input, shape (rows, ...), if the models have one.
        """
        ...


@runtime_checkable
class Observing(Protocol):
    """A coupling that uses more than what the two models generate: rows of data, or inference programs."""

    @property
    def needs_data(self) -> bool:
        """Whether each step needs rows of data."""
        ...

    @property
    def runs_inference(self) -> bool:
        """Whether the student's inference program runs, and so is trained."""
        ...


def needs_data(coupling: Coupling) -> bool:
    """Whether a coupling needs rows of data in each step; one that is not :class:`Observing` needs none."""
    return isinstance(coupling, Observing) and coupling.needs_data


def runs_inference(coupling: Coupling) -> bool:
    """Whether a coupling runs the student's inference program; one that is not :class:`Observing` does not."""
    return isinstance(coupling, Observing) and coupling.runs_inference


def prepare_coupling(coupling: Coupling, teacher: DGM, student: DGM, x: Tensor | None = None) -> None:
    """Let a coupling size its parameters, if it has any; arguments as for :meth:`Preparable.prepare`."""
    if isinstance(coupling, Preparable):
        coupling.prepare(teacher, student, x)


def coupling_parts(coupling: Any) -> Iterator[Any]:
    """A coupling and those in its fields, if it is a dataclass: the ones that it runs."""
    yield coupling
    if dataclasses.is_dataclass(coupling) and not isinstance(coupling, type):
        for field in dataclasses.fields(coupling):
            if callable(inner := getattr(coupling, field.name, None)):
                yield from coupling_parts(inner)


def is_scheduled(coupling: Coupling) -> bool:
    """Whether what a coupling does depends on :attr:`Request.progress`: it or one in it says so by ``scheduled``."""
    return any(getattr(part, "scheduled", False) for part in coupling_parts(coupling))
