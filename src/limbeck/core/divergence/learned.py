"""What divergences with parameters of their own have in common: they are sized by the sites that they compare."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Self

from torch import Tensor, nn
from torch.distributions import Distribution

from limbeck.errors import DivergenceError

__all__ = ["Learned"]


class Learned(nn.Module, ABC):
    """A divergence that learns while it compares, such as a regression of the teacher's feature on the student's.

    What a match holds is a template: settings, no parameters. :meth:`limbeck.Objective.prepare` makes of it one copy a
    pair of sites, each with parameters of the sizes that these sites have; so one match of a pattern (``"h[*]"``) gives
    every layer its own. The copies belong to the objective: they train with the student, move between devices with it,
    are in its checkpoints and in the file ``objective.safetensors`` beside the student.

    A subclass tells all its settings in ``extra_repr``: they are part of what tells one training from another.
    """

    def __init__(self) -> None:
        super().__init__()
        self.observed: dict[str, Tensor] = {}
        """Name to scalar of the last call, shape (), detached: logged beside the loss, never optimised."""
        self.sized = False
        """Whether there are parameters; a template has none."""

    @abstractmethod
    def size(self, p: Distribution, q: Distribution) -> None:
        """Make parameters and buffers for two sites; called once, on a copy of the template.

        Args:
            p: the teacher's law of a few rows.
            q: the student's.

        Raises:
            DivergenceError: the two cannot be matched.
        """

    @abstractmethod
    def forward(self, p: Distribution, q: Distribution) -> Tensor:
        """The divergence a row, shape (batch,)."""

    def undecayed(self) -> Iterable[nn.Parameter]:
        """Parameters that a penalty on weights would pull somewhere without meaning, such as those of variances.

        Asked only of what is sized.
        """
        return ()

    def fitted(self, p: Distribution, q: Distribution) -> Self:
        """A copy of this template for two sites, with parameters where they are.

        Args:
            p: the teacher's law of a few rows.
            q: the student's.

        Raises:
            DivergenceError: the two cannot be matched.
        """
        made = copy.deepcopy(self)
        made.size(p, q)
        made.sized = True
        return made

    def check_sized(self) -> None:
        """Refuse to compare before there are parameters.

        Raises:
            DivergenceError: this is still a template.
        """
        if not self.sized:
            raise DivergenceError(
                f"{type(self).__name__} has no parameters yet; call objective.prepare(teacher, student, x) before the "
                "optimiser is made, or .fitted(p, q)"
            )
