"""A plain network as a directed model: hidden layers are deterministic sites, the class a target ([U] Sec. 3.5)."""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F
from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites
from limbeck.errors import ModelError
from limbeck.models.inputs import class_loss, flat_rows

__all__ = ["MLPClassifier"]


class MLPClassifier(DGM):
    """Classifier without latents: hidden features ``h[0]``, ``h[1]``, ... and the target ``y``, a class.

    "A vanilla neural network with multiple intermediate features can be viewed as a DGM with multiple deterministic
    latent variables" ([U] Sec. 3.5): every hidden layer, after its ReLU, is a site that a match can name.

    Args:
        inputs: number of values of one row of x.
        classes: number of classes.
        widths: sizes of the hidden layers; none makes a linear classifier.

    Raises:
        ModelError: a size is not positive.

    Example:
        >>> import torch
        >>> MLPClassifier(inputs=4, classes=3, widths=[8, 5]).trace(x=torch.zeros(2, 4))
        Trace(h[0]: deterministic, h[1]: deterministic, y: target)
    """

    def __init__(self, inputs: int, classes: int, widths: list[int]) -> None:
        super().__init__()
        if min((inputs, classes, *widths)) < 1:
            raise ModelError(
                f"MLPClassifier: inputs, classes and widths must be positive, not {inputs}, {classes}, {widths}"
            )
        self.inputs = inputs
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in itertools.pairwise((inputs, *widths)))
        self.head = nn.Linear((inputs, *widths)[-1], classes)

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """Declare the hidden layers and the class of ``x``, shape (batch, ...) with ``inputs`` values a row."""
        h = self._rows(x)
        for index, layer in enumerate(self.layers):
            h = sites.deterministic(f"h[{index}]", F.relu(layer(h)))
        sites.target("y", Categorical(logits=self.head(h), validate_args=False))

    @override
    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        """Cross-entropy of the labels, in nats.

        Args:
            batch: ``x`` of shape (batch, ...), ``y`` the classes, int64 of shape (batch,).
            progress: not used.

        Returns:
            The single term ``y``.
        """
        h = self._rows(batch.x)
        for layer in self.layers:
            h = F.relu(layer(h))
        return Loss.of({"y": class_loss(self, self.head(h), batch.y)})

    def _rows(self, x: Tensor | None) -> Tensor:
        if x is None:
            raise ModelError("MLPClassifier needs something to classify; give x, or condition in a recipe")
        return flat_rows(self, x, self.inputs)
