"""Reconstruction by any model that has an inference program: encode, then decode."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.core.expectation import mean
from limbeck.core.graph import DGM
from limbeck.core.trace import KEEP_DISTRIBUTION, Kind, keep_fields

__all__ = ["reconstruct"]


@torch.no_grad()
def reconstruct(model: DGM, y: Tensor, x: Tensor | None = None) -> Tensor:
    """Encode an observation by the inference program, and decode the code by the generative one.

    Every latent is the middle of its posterior conditional (the mean of a Gaussian, the mode of a category), and the
    targets are the means of their last conditionals, each given the observed values of those before it.

    Args:
        model: a model with an inference program over all of its latents.
        y: observed target, shape (batch, ...).
        x: conditioning input, shape (batch, ...), if the model has one.

    Returns:
        Shape of ``y``.

    Raises:
        SiteError: the model has a latent that its inference program does not declare.
        ModelError: it has no inference program, or several targets and no ``join_targets``.
    """
    code = model.trace_inference(y, x, temperature=0.0).values
    # noise={}: a latent that the inference program forgot must be an error, not a fresh draw from the prior.
    # The observed targets: one that depends on another would depend on a draw of it otherwise.
    observed = model.split_targets(y, x)
    decoded = model.trace(
        len(y), x, values={**code, **observed}, noise={}, keep=keep_fields(KEEP_DISTRIBUTION, Kind.TARGET)
    )
    means = {site.name: mean(site.distribution) for site in decoded.of_kind(Kind.TARGET) if site.distribution}
    return model.join_targets(means)
