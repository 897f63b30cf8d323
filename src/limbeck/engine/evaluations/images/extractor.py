"""The feature extractor behind "FID (digits-cnn)": a file, or a small classifier trained once and cached."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Categorical
from typing_extensions import override

from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.methods import scratch
from limbeck.core.sites import Sites
from limbeck.data import Dataset, ImageDataset, as_float
from limbeck.engine.evaluations.images.image_samples import images_of
from limbeck.engine.settings.checks import check_whole
from limbeck.engine.settings.options import Training
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.locking import locked
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed, seeded
from limbeck.engine.training.fit import fit
from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.files import remove_temporary_files
from limbeck.metrics import ClassifierFeatures, FeatureExtractor, TorchScriptFeatures

__all__ = [
    "EXTRACTOR_TRAINING",
    "accuracy",
    "check_extractor",
    "extractor_name",
    "feature_extractor",
    "trained_extractor",
]

EXTRACTOR_TRAINING = Training(steps=800, batch_size=128, learning_rate=2e-3, schedule="cosine", warm_up=0.1)
_SEED = 0  # fixed: the same data always gives the same extractor, and the same further ones


class _Labels(DGM):
    """p(label | image), so that the classifier is trained by the same engine as everything else."""

    def __init__(self, network: ClassifierFeatures) -> None:
        super().__init__()
        self.network = network

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        sites.target("label", Categorical(logits=self.network.logits(_given(x)), validate_args=False))

    @override
    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        return Loss.of({"label": self.network.loss(_given(batch.x), batch.y)})


def trained_extractor(
    dataset: ImageDataset,
    cache: Path,
    progress: Progress,
    training: Training = EXTRACTOR_TRAINING,
    number: int = 1,
) -> ClassifierFeatures:
    """Load the data set's own classifier from the cache, or train it on the training split and keep it there.

    Args:
        dataset: labelled images with at least two classes.
        cache: directory of cached extractors; each has a folder named by a fingerprint of data, network and training.
        progress: informed of the steps.
        training: its optimisation.
        number: which one: each has its own initial weights and order of the rows.

    Returns:
        The network, in eval mode; its name is the data set's name with ``-cnn``, and from the second on its number.

    Raises:
        DataError: the data has no labels to train on.
    """
    channels, size, _ = dataset.image_shape
    if len(dataset.classes) < 2:
        raise DataError(
            f"{dataset.name} has a single class, so no classifier can be trained to measure FID; give "
            "--evaluation.extractor=FILE with a TorchScript network"
        )
    name = f"{dataset.name}-cnn" + (f"-{number}" if number > 1 else "")
    seed = _SEED if number == 1 else derive_seed(_SEED, f"extractor {number}")
    with seeded(seed):
        network = ClassifierFeatures(channels, size, len(dataset.classes), name)
    key = fingerprint(data=dataset.fingerprint, network=network.config, training=training, layout=str(network))
    folder = cache / f"{network.name}-{key}"
    path = folder / "extractor.safetensors"
    label = f"extractor {network.name}"
    # Of several runs that need the same extractor one trains it; the others wait and read it.
    with locked(folder, wait=True):
        remove_temporary_files(folder)
        if path.exists():
            try:
                found = ClassifierFeatures.load(path)
                progress.start(label, training.steps, training.steps)
                progress.advance(training.steps)
                return found
            except ModelError as error:
                progress.message(f"Warning: {error} Training it again.")
        rows = Batch(dataset.train.labels, dataset.train.images)
        fit(_Labels(network), scratch(), training, data=rows, seed=derive_seed(seed, "extractor"), progress=progress,
            label=label)  # fmt: skip
        network.save(path)
    return network.eval()


def check_extractor(path: str | None, steps: int) -> None:
    """Refuse settings of the extractor that cannot be used, before any model is trained.

    Args:
        path: a TorchScript file, or ``None``.
        steps: training steps of the classifier that stands in for it.

    Raises:
        RecipeError: there is no such file, or the number is below 1.
    """
    check_whole(1, "evaluation.", extractor_steps=steps)
    if path is not None and not Path(path).is_file():
        raise RecipeError(f"evaluation.extractor: there is no file {path}; check the path")


def extractor_name(path: str | None, dataset: Dataset | None) -> str:
    """What the extractor is called in tables; it need not exist yet."""
    return Path(path).stem if path else f"{images_of(dataset).name}-cnn"


def feature_extractor(
    path: str | None, steps: int, dataset: ImageDataset, cache: Path, progress: Progress, number: int = 1
) -> FeatureExtractor:
    """The extractor: a network from a file, or the data's own classifier, trained once.

    Args:
        path: a TorchScript file, or ``None``.
        steps: training steps of the classifier.
        dataset: labelled images.
        cache: where trained classifiers are kept.
        progress: informed of the steps.
        number: which of the classifiers, which differ in their seeds.

    Raises:
        DataError: the data has no labels to train on.
        ModelError: the file is no feature network.
    """
    if path is not None:
        return TorchScriptFeatures(path)
    training = dataclasses.replace(EXTRACTOR_TRAINING, steps=steps)
    return trained_extractor(dataset, cache / "extractors", progress, training, number)


@torch.no_grad()
def accuracy(network: ClassifierFeatures, images: Tensor, labels: Tensor) -> float:
    """Fraction of images that the classifier labels correctly."""
    network.eval()
    device = first_parameter(network).device
    right = [
        (network.logits(as_float(rows.to(device))).argmax(1).cpu() == truth).sum().item()
        for rows, truth in zip(torch.split(images, 500), torch.split(labels, 500), strict=True)
    ]
    return float(sum(right)) / max(1, len(images))


def _given(x: Tensor | None) -> Tensor:
    if x is None:
        raise ModelError("a classifier needs images as its conditioning input x")
    return x
