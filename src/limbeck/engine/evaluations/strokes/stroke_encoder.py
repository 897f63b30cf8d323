"""Giving every model an encoder that fits it, before likelihoods are bounded with it."""

from __future__ import annotations

import copy

from torch import Tensor
from typing_extensions import override

from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.methods import scratch
from limbeck.core.sites import Sites
from limbeck.engine.settings.options import Training
from limbeck.engine.training.fit import fit

__all__ = ["with_fitted_encoder"]


class _Complete(DGM):
    """A model whose constants are set: unlike the model itself, it does not adapt to the rows it is trained on."""

    def __init__(self, model: DGM) -> None:
        super().__init__()
        self.model = model

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        self.model.generate(sites, x)

    @override
    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        # The whole bound from the first step: a weight that is still to rise is for models that learn to generate.
        return self.model.loss(batch)


def with_fitted_encoder(model: DGM, drawings: Tensor, steps: int, seed: int) -> DGM:
    """A copy of a model whose inference parameters alone were trained, by the model's own bound.

    A data-free student's encoder has never been trained, and a bound that proposes from it, or from the prior, would be
    loose by more than students differ. What the model generates stays as it is.

    Args:
        model: with a loss on drawings.
        drawings: what likelihoods will be bounded on, or others like them, shape (rows, length, 4).
        steps: optimiser steps; 0 returns the model itself.
        seed: fixes order of rows and noise.

    Returns:
        The copy, in eval mode.
    """
    if not steps:
        return model
    model = copy.deepcopy(model)
    inference = {id(parameter) for parameter in model.inference_parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in inference)
    training = Training(steps=steps, batch_size=64, learning_rate=5e-3, schedule="cosine", weight_decay=0.0)
    like = first_parameter(model)
    fit(_Complete(model), scratch(), training, data=Batch(drawings.to(like.dtype)), seed=seed)
    return model.eval()
