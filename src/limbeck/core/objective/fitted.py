"""The learned divergences of an objective: of each pair of sites that one compares, a copy with its own parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from limbeck.core.divergence.learned import Learned
from limbeck.core.objective.comparison import Divergence
from limbeck.core.objective.pairing import Pairing
from limbeck.errors import DivergenceError, LimbeckError

__all__ = ["FittedDivergences", "undecayed_parameters"]


class FittedDivergences(nn.ModuleDict):
    """Copies of learned divergences by :attr:`~limbeck.core.objective.pairing.Pairing.key`, each sized to its sites.

    What a match holds is a template without parameters, see :class:`~limbeck.core.divergence.Learned`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sites: dict[str, tuple[str | None, str]] = {}
        self.names: dict[str, str] = {}
        """Key to the teacher's site, as reports call it. Several that learn on one site are told apart by the names of
        their matches, as ``"a/h.0"`` and ``"b/h.0"``; if these are equal, by numbers: ``"h.0"`` and ``"h.0 (2)"``."""

    def fit(self, pairings: Iterable[Pairing], like: Tensor) -> None:
        """Make the copies that are missing; those that are there stay as they are.

        Args:
            pairings: all comparisons of two runs.
            like: has the device and the number type of the parameters.

        Raises:
            DivergenceError: two sites do not fit the divergence that is to compare them.
        """
        for found in pairings:
            template = found.match.divergence
            if isinstance(template, Learned) and not template.sized and found.key not in self:
                try:
                    made = template.fitted(found.teacher, found.student)
                except LimbeckError as error:
                    raise type(error)(f"site {found.name!r}: {error}") from None
                self[found.key] = made.to(like.device, like.dtype)
                self._sites[found.key] = found.match.name, found.name
        self.names = self._named()

    def _named(self) -> dict[str, str]:
        on: dict[str, set[str | None]] = {}
        for own, site in self._sites.values():
            on.setdefault(site, set()).add(own)
        names: dict[str, str] = {}
        seen: Counter[str] = Counter()
        for key, (own, site) in self._sites.items():
            label = f"{own}/{site}" if own is not None and len(on[site]) > 1 else site
            seen[label] += 1
            names[key] = label if seen[label] == 1 else f"{label} ({seen[label]})"
        return names

    def of(self, found: Pairing) -> Divergence:
        """What compares a pair of sites: the divergence of its match or, of one that learns, the copy for this pair.

        Raises:
            DivergenceError: the divergence learns and has no parameters yet.
        """
        divergence = found.match.divergence
        if not isinstance(divergence, Learned):
            return divergence
        if found.key not in self:
            sized = [self._sites[key][1] for key in self if key.startswith(f"{found.position}:")]
            if sized and not divergence.sized:
                raise DivergenceError(
                    f"site {found.name!r}: the {type(divergence).__name__} of the match {found.match.teacher!r} has no "
                    f"parameters for it, since objective.prepare(...) found only the sites {', '.join(sized)}; call it "
                    "again before the optimiser is made, with models and rows x that have them all"
                )
            divergence.check_sized()
            return divergence
        fitted: Divergence = self[found.key]
        return fitted

    def observed(self) -> dict[str, Tensor]:
        """What the divergences saw in the last comparison: ``"name/site"`` to a value of shape ()."""
        return {
            f"{name}/{self.names[key]}": value
            for key, module in self.items()
            if isinstance(module, Learned)
            for name, value in module.observed.items()
        }


def undecayed_parameters(objective: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters of all learned divergences of an objective that a penalty on weights must leave alone."""
    for module in objective.modules():
        if isinstance(module, Learned) and module.sized:
            yield from module.undecayed()
