"""What models cannot work on is told before torch fails on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.errors import ModelError
from limbeck.models import (
    DCGAN,
    DDIM,
    VIB,
    VRNN,
    Autoregressive,
    Glow,
    HelmholtzMachine,
    LadderVAE,
    MLPClassifier,
    NetworkClassifier,
)

CLASSIFIERS: dict[str, Callable[[], DGM]] = {
    "mlp": lambda: MLPClassifier(64, 10, [4]),
    "vib": lambda: VIB(8, 1, hidden=4, latent_size=2),
    "vib without noise": lambda: VIB(8, 1, hidden=4, latent_size=2, stochastic=False),
    "network": lambda: NetworkClassifier("MLP", {"hidden": 4, "image_size": 8, "channels": 1, "classes": 10}),
    "wrapped": lambda: NetworkClassifier.wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), []),
}
TINY = {
    "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (8,), "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",),
}  # fmt: skip
IMAGES: dict[str, Callable[[], DGM]] = {
    "ladder": lambda: LadderVAE(8, 1, levels=2, width=4, latent_channels=2),
    "gan": lambda: DCGAN(8, 1, width=2, latent_size=2, critic_width=2),
    "glow": lambda: Glow(8, 1, levels=1, depth=1, hidden=2),
    "diffusion": lambda: DDIM(TINY),
}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2, 10]), r"has 10 classes, 0 to 9, but labels go from 0 to 10"),
        (torch.tensor([0, 1, 2, -1]), r"labels go from -1 to 2"),
        (torch.tensor([[0], [1], [2], [3]]), r"integers of shape \(4,\), not torch.int64 of shape \(4, 1\)"),
        (torch.tensor([0.0, 1.0, 2.0, 3.0]), r"integers of shape \(4,\), not torch.float32"),
    ],
)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_labels_that_do_not_fit(name: str, labels: Tensor, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        CLASSIFIERS[name]().loss(Batch(labels, torch.rand(4, 1, 8, 8)))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_labels_of_other_types(name: str) -> None:
    """Small integers, and probabilities of the classes, as the mean of a class is."""
    model = CLASSIFIERS[name]()
    x = torch.rand(4, 1, 8, 8)
    losses = []
    for labels in (
        torch.tensor([3, 1, 0, 9]),
        torch.tensor([3, 1, 0, 9], dtype=torch.int32),
        torch.eye(10)[[3, 1, 0, 9]],
    ):
        torch.manual_seed(0)
        losses.append(model.loss(Batch(labels, x)).terms["y"])
    assert torch.equal(losses[0], losses[1])
    torch.testing.assert_close(losses[0], losses[2])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_bytes_of_images_to_classify(name: str) -> None:
    with pytest.raises(ModelError, match=r"floating-point numbers, but .* is torch.uint8.* / 255"):
        CLASSIFIERS[name]().loss(Batch(torch.tensor([1, 2]), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)))


@pytest.mark.parametrize("name", IMAGES)
def test_bytes_of_images_to_learn(name: str) -> None:
    with pytest.raises(ModelError, match=r"floating-point numbers, but .* is torch.uint8.* / 255"):
        IMAGES[name]().loss(Batch(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)))


@pytest.mark.parametrize("model", [HelmholtzMachine(hidden=3), VRNN(steps=4, width=3, features=2, latent_size=2)])
def test_whole_numbers_to_learn(model: DGM) -> None:
    """Strokes are often stored as whole numbers of pixels."""
    y = torch.ones((2, 2) if isinstance(model, HelmholtzMachine) else (2, 4, 4), dtype=torch.int16)
    for call in (model.loss, lambda batch: model.trace_inference(batch.y)):
        with pytest.raises(ModelError, match=r"floating-point numbers, but y is torch.int16"):
            call(Batch(y))


def test_no_rows_at_all() -> None:
    assert MLPClassifier(4, 3, [2]).sample(x=torch.zeros(0, 4))["y"].shape == (0,)


@pytest.mark.parametrize("program", ["loss", "split_targets"])
def test_tokens_that_are_not_in_the_vocabulary(program: str) -> None:
    model, y = Autoregressive(3, 3), torch.tensor([[0, 1, 7]])
    with pytest.raises(ModelError, match=r"Autoregressive has 3 classes, 0 to 2, but labels go from 0 to 7"):
        model.loss(Batch(y)) if program == "loss" else model.split_targets(y)


def test_one_row_is_too_little_for_batch_norm() -> None:
    model, y = LadderVAE(4, 1, levels=2, width=4, latent_channels=2), torch.rand(1, 1, 4, 4)
    with pytest.raises(ModelError, match="at least 2 rows"):
        model.loss(Batch(y))
    assert torch.isfinite(model.eval().loss(Batch(y)).total)
