"""Where in an image the student can predict the teacher's features ([V] Fig. 2 and 4)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from limbeck.core.delta import Delta
from limbeck.core.divergence import ObservationModel
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.objective.combination import Combined
from limbeck.core.objective.objective import Objective

__all__ = ["LikelihoodMap", "likelihood_maps"]

_MAP = 3  # dimensions: rows, height, width


class LikelihoodMap:
    r"""The log-likelihood of a teacher's feature at each place, and how large the feature is there.

    Attributes:
        likelihood: :math:`\log q(t_{hw} | s) = \sum_c \log q(t_{chw} | s)` in nats, shape (rows, height, width).
        magnitude: mean of the absolute values over channels, shape (rows, height, width).
    """

    __slots__ = ("likelihood", "magnitude")

    def __init__(self, likelihood: Tensor, magnitude: Tensor) -> None:
        self.likelihood = likelihood
        self.magnitude = magnitude


@torch.no_grad()
def likelihood_maps(objective: Objective, teacher: DGM, student: DGM, x: Tensor) -> dict[str, LikelihoodMap]:
    """The maps of every site of which an objective has a learned observation model.

    Both models run in eval mode; the state of all random numbers is kept, and nothing is updated.

    Args:
        objective: prepared or trained.
        teacher: the frozen model.
        student: the model that learns from it.
        x: conditioning input, shape (rows, ...).

    Returns:
        The teacher's site to its map, in the order of the program; sites that are vectors are left out.
    """
    found: dict[str, LikelihoodMap] = {}
    with torch.random.fork_rng(), frozen(student):
        for part in _parts(objective):
            taught, learned = part.coupling(teacher, student, part.request(None, x))
            for pair in part.matching.pairings(taught, learned, complete=False):
                model = pair.match.divergence
                if pair.key in part.learned:
                    model = part.learned[pair.key]
                if not isinstance(model, ObservationModel) or not isinstance(pair.teacher, Delta):
                    continue
                likelihood = model.log_likelihood(pair.teacher, pair.student)
                if likelihood.ndim == _MAP and pair.name not in found:
                    found[pair.name] = LikelihoodMap(likelihood.float(), pair.teacher.value.abs().mean(1).float())
    return found


def _parts(objective: Objective) -> Iterator[Objective]:
    for part in objective.modules():  # a sum may have sums among its parts
        if isinstance(part, Objective) and not isinstance(part, Combined) and part.needs_teacher:
            yield part
