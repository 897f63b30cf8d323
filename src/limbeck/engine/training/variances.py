"""What divergences have learned of how well each channel can be predicted ([V] Fig. 3)."""

from __future__ import annotations

from limbeck.core.divergence import ObservationModel
from limbeck.core.objective import Objective

__all__ = ["VARIANCES", "learned_variances"]

VARIANCES = "variances.json"
"""Name of the file beside a student."""


def learned_variances(objective: Objective) -> dict[str, list[float]]:
    """The learned variances of every site that an objective has an observation model of.

    Args:
        objective: after a training.

    Returns:
        The teacher's site to the variance of each of its channels, largest first, in units of the squared feature.
        If several matches learn one for the same site, those of the later matches are numbered: ``"h[0] (2)"``.
    """
    found: dict[str, list[float]] = {}
    for part in objective.modules():
        if not isinstance(part, Objective):
            continue
        for key, module in part.learned.items():
            if isinstance(module, ObservationModel):
                site = part.learned.names[key]
                copies = sum(name.partition(" (")[0] == site for name in found)
                name = f"{site} ({copies + 1})" if copies else site
                found[name] = module.variances.detach().cpu().double().flatten().sort(descending=True).values.tolist()
    return found
