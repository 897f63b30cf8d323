"""The network behind the learned distance between drawings: trained once on real drawings and cached."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.methods import scratch
from limbeck.core.sites import Sites
from limbeck.data import StrokeDataset
from limbeck.engine.settings.options import Training
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.locking import locked
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed, seeded
from limbeck.engine.training.fit import fit
from limbeck.errors import ModelError
from limbeck.files import remove_temporary_files
from limbeck.metrics import StrokePredictor

__all__ = ["PREDICTOR_TRAINING", "predictor_features", "trained_predictor"]

PREDICTOR_TRAINING = Training(steps=400, batch_size=128, learning_rate=5e-3, schedule="cosine", weight_decay=0.0)
_SEED = 0  # fixed: the same data always gives the same predictor


class _Prediction(DGM):
    """The predictor as a model that the engine can train and store; it generates nothing."""

    def __init__(self, shift: tuple[float, float], scale: tuple[float, float]) -> None:
        super().__init__()
        self.network = StrokePredictor(shift, scale)

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        raise ModelError("the predictor of drawings has no generative program")

    @override
    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        return Loss.of({"next": self.network.loss(batch.y)})


def trained_predictor(
    dataset: StrokeDataset, cache: Path, progress: Progress, training: Training = PREDICTOR_TRAINING
) -> StrokePredictor:
    """Load the data set's own predictor from the cache, or train it on the training split and keep it there.

    Args:
        dataset: real drawings.
        cache: directory of cached predictors; each has a folder named by a fingerprint of data and training.
        progress: informed of the steps.
        training: its optimisation.

    Returns:
        The network, in eval mode.
    """
    strokes, lengths = dataset.train.strokes, dataset.train.lengths
    offsets = strokes[torch.arange(strokes.shape[1]) < lengths[:, None]][:, :2].double()
    shift, scale = offsets.mean(0).tolist(), offsets.std(0, correction=0).clamp(min=1e-6).tolist()
    with seeded(_SEED):
        model = _Prediction((shift[0], shift[1]), (scale[0], scale[1]))
    key = fingerprint(data=dataset.fingerprint, training=training, layout=str(model))
    folder = cache / f"{dataset.name}-next-{key}"
    label = f"predictor {dataset.name}"
    # Of several runs that need the same predictor one trains it; the others wait and read it.
    with locked(folder, wait=True):
        remove_temporary_files(folder)
        if (folder / "config.json").exists():
            try:
                found = _Prediction.from_pretrained(folder)
                progress.start(label, training.steps, training.steps)
                progress.advance(training.steps)
                return found.network.eval()
            except ModelError as error:
                progress.message(f"Warning: {error} Training it again.")
        fit(model, scratch(), training, data=Batch(strokes), seed=derive_seed(_SEED, "predictor"), progress=progress,
            label=label)  # fmt: skip
        model.save_pretrained(folder)
    return model.network.eval()


@torch.no_grad()
def predictor_features(network: StrokePredictor, strokes: Tensor) -> Tensor:
    """Features of many drawings, (rows, length, 4) to (rows, width), in batches."""
    return torch.cat([network(rows) for rows in torch.split(strokes.float(), 500)])
