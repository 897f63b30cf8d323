"""The network of feature distances that are given none: a classifier of the data's labels."""

from __future__ import annotations

from pathlib import Path

from limbeck.core.divergence import FeatureDistance
from limbeck.core.objective import Objective
from limbeck.data import Dataset
from limbeck.engine.evaluations.images.extractor import trained_extractor
from limbeck.engine.evaluations.images.image_samples import images_of
from limbeck.engine.stages.progress import Progress

__all__ = ["equip", "wants_network"]

# Not the first, by which FID is measured, nor the second, the independent extractor of some evaluations.
_NUMBER = 3


def wants_network(objective: Objective) -> bool:
    """Whether an objective has a feature distance without a network."""
    return bool(_waiting(objective))


def equip(objective: Objective, dataset: Dataset | None, cache: Path, progress: Progress) -> Objective:
    """Give every feature distance of an objective that has no network the data's own classifier.

    It is trained like the one that measures distances, from another seed, and kept in the same place. Where no layers
    are named, the outputs of all blocks and of the penultimate layer are compared.

    Args:
        objective: changed in place.
        dataset: labelled images.
        cache: where networks are kept.
        progress: informed of the steps.

    Returns:
        The objective.

    Raises:
        RecipeError: the data are no images.
        DataError: they have no labels.
    """
    for distance in _waiting(objective):
        network = trained_extractor(images_of(dataset), cache / "extractors", progress, number=_NUMBER)
        if not distance.layers:
            distance.layers = (*(f"blocks.{number}" for number in range(len(network.blocks))), "neck")
        distance.use(network)
    return objective


def _waiting(objective: Objective) -> list[FeatureDistance]:
    return [part for part in objective.modules() if isinstance(part, FeatureDistance) and part.network is None]
