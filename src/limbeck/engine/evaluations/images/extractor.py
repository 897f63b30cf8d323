"""The feature extractor behind "FID (digits-cnn)": a small classifier, trained once on the labels and cached."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Categorical

from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.methods import scratch
from limbeck.core.sites import Sites
from limbeck.data import ImageDataset, as_float
from limbeck.engine.settings.options import Training
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.locking import locked
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed, seeded
from limbeck.engine.training.fit import fit
from limbeck.errors import DataError, ModelError
from limbeck.files import remove_temporary_files
from limbeck.metrics import ClassifierFeatures

__all__ = ["EXTRACTOR_TRAINING", "accuracy", "trained_extractor"]

EXTRACTOR_TRAINING = Training(steps=800, batch_size=128, learning_rate=2e-3, schedule="cosine", warm_up=0.1)
_SEED = 0  # fixed: the same data always gives the same ruler, and the same further ones


class _Labels(DGM):
    """p(label | image), so that the classifier is trained by the same engine as everything else."""

    def __init__(self, network: ClassifierFeatures) -> None:
        super().__init__()
        self.network = network

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        sites.target("label", Categorical(logits=self.network.logits(_given(x)), validate_args=False))

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
        progress: told the steps.
        training: its optimisation.
        number: which one: each starts from weights of its own and sees the rows in another order.

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


@torch.no_grad()
def accuracy(network: ClassifierFeatures, images: Tensor, labels: Tensor) -> float:
    """Fraction of images that the classifier labels rightly."""
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
