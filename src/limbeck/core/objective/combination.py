"""Several objectives as one: a sum whose parts tie teacher and student in different ways ([F] Eq. 15)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.objective.match import Weight
from limbeck.core.objective.objective import Objective
from limbeck.errors import MatchError

__all__ = ["Combined"]


class Combined(Objective):
    r"""A weighted sum of objectives, each with its own coupling: :math:`L = \sum_i w_i L_i`.

    An objective with several matches runs each model once; this one runs both once for each part. A part whose weight
    is 0 is not run, so that a schedule can switch it on and off.

    Args:
        parts: name to objective; terms are called ``"name/site"``.
        weights: name to factor, a number or a function of the fraction of training that is done; by default 1.

    Raises:
        MatchError: there are no parts, a weight belongs to none of them, or a part has a name that no module can have.
    """

    def __init__(self, parts: Mapping[str, Objective], weights: Mapping[str, Weight] | None = None) -> None:
        super().__init__([])
        weights = weights or {}
        stray = set(weights) - set(parts)
        if stray or not parts:
            told = f"the weight {sorted(stray)[0]!r} belongs to no part" if stray else "there are no parts"
            raise MatchError(f"combined: {told}; parts: {', '.join(parts) or 'none'}")
        try:
            self.parts = nn.ModuleDict(parts)
        except KeyError as error:  # a name with a dot, or of something that torch's dictionary has
            raise MatchError(f"combined: a part cannot be called so: {error.args[0]}; give it another name") from None
        self.weights = {name: weights.get(name, 1.0) for name in parts}

    @property
    def objectives(self) -> dict[str, Objective]:
        """The parts by name."""
        return {name: part for name, part in self.parts.items() if isinstance(part, Objective)}

    @property
    @override
    def needs_teacher(self) -> bool:
        return any(part.needs_teacher for part in self.objectives.values())

    @property
    @override
    def needs_data(self) -> bool:
        return any(part.needs_data for part in self.objectives.values())

    @property
    @override
    def trains_inference(self) -> bool:
        return any(part.trains_inference for part in self.objectives.values())

    @property
    @override
    def scheduled(self) -> bool:
        return any(map(callable, self.weights.values())) or any(part.scheduled for part in self.objectives.values())

    @override
    def prepare(self, teacher: DGM | None, student: DGM, x: Tensor | None = None) -> None:
        for part in self.objectives.values():
            part.prepare(teacher, student, x)

    @override
    def forward(
        self,
        teacher: DGM | None,
        student: DGM,
        *,
        batch_size: int | None = None,
        x: Tensor | None = None,
        batch: Batch | None = None,
        progress: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Run and compare for each part; see :class:`Objective`."""
        progress = self.progress_of(progress)
        terms: dict[str, Tensor] = {}
        observed: dict[str, Tensor] = {}
        for name, part in self.objectives.items():
            weight = self.weights[name]
            factor = weight(progress) if callable(weight) else weight
            if factor == 0.0:
                continue
            loss = part(
                teacher, student, batch_size=batch_size, x=x, batch=batch, progress=progress, generator=generator
            )
            terms.update({f"{name}/{site}": factor * term for site, term in loss.terms.items()})
            observed.update({f"{name}/{key}": value for key, value in loss.observed.items()})
        if not terms:
            raise MatchError("every part of this objective has weight 0 at this point of the training")
        loss = Loss.of(terms, observed)
        return loss if loss.total.requires_grad or not self.scheduled else loss.towards(student)
