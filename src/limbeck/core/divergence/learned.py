"""The base class of divergences with parameters of their own, which are sized by the sites that they compare."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Self

from torch import Tensor, nn
from torch.distributions import Distribution
from typing_extensions import override

from limbeck.errors import DivergenceError

__all__ = ["Learned"]


class Learned(nn.Module, ABC):
    """A divergence that learns while it compares, such as a regression of the teacher's feature on the student's.

    A match holds a template: settings, no parameters. :meth:`limbeck.Objective.prepare` makes one copy of it for each
    pair of sites, with parameters of the sizes that these sites need; so one match of a pattern (``"h[*]"``) gives
    every layer a divergence of its own. The copies belong to the objective: they train with the student, move between
    devices with it, and are saved in its checkpoints and in the file ``objective.safetensors`` beside the student.

    A subclass lists all its settings in ``extra_repr``: the fingerprint of a training is made of them.
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
    @override
    def forward(self, p: Distribution, q: Distribution) -> Tensor:
        """The divergence of each row, shape (batch,)."""

    def undecayed(self) -> Iterable[nn.Parameter]:
        """Parameters for which weight decay makes no sense, such as those of variances.

        Called only once the divergence is sized.
        """
        return ()

    def fitted(self, p: Distribution, q: Distribution) -> Self:
        """A copy of this template for two sites, with parameters on their device.

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
