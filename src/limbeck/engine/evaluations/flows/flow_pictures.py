"""Images of flows: rounded to the values that pixels can have, and interpolated between two rows ([F] Eq. 16)."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.engine.evaluations.flows.flow_rows import Invertible
from limbeck.errors import ModelError
from limbeck.metrics import interpolate_latents

__all__ = ["as_pictures", "as_pixels", "interpolations", "invertible", "pixel_levels"]


@torch.no_grad()
def interpolations(
    model: DGM, u: Tensor, v: Tensor, alpha: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Rows between rows of data, which are encoded, interpolated without loss of norm ([F] Eq. 16), and decoded.

    Args:
        model: a flow.
        u: rows of data, shape (batch, ...).
        v: others.
        alpha: shape (batch,), in [0, 1]: 0 gives ``u`` and 1 gives ``v``.
        temperature: multiplies the latents that are decoded.
        generator: source of the dequantisation noise.

    Returns:
        Shape (batch, ...); not finite where the model's rows are not.
    """
    dtype = first_parameter(model).dtype
    codec = invertible(model)
    ends = [codec.encode(model.observed(rows.to(dtype), generator)) for rows in (u, v)]
    flat = [torch.cat([latent.flatten(1) for latent in latents], dim=1) for latents in ends]
    between = interpolate_latents(flat[0], flat[1], alpha.to(dtype)) * temperature
    parts = torch.split(between, [latent[0].numel() for latent in ends[0]], dim=1)
    return codec.decode([part.view_as(latent) for part, latent in zip(parts, ends[0], strict=True)])


def as_pixels(model: DGM, y: Tensor) -> Tensor:
    """Samples as images in [0, 1], rounded to the values that pixels can have; all NaN where one pixel is not finite.

    Args:
        model: a flow, which may know how many values a pixel can have.
        y: shape (batch, channels, height, width); so is the result.
    """
    levels = pixel_levels(model)
    finite = y.isfinite().flatten(1).all(1).view(-1, *[1] * (y.ndim - 1))
    shown = y if levels is None else (y * levels).floor() / (levels - 1)
    return shown.clamp(0, 1).where(finite, torch.nan)


def as_pictures(model: DGM, y: Tensor) -> Tensor:
    """Like :func:`as_pixels`, but black where an image is not finite, to be shown."""
    return as_pixels(model, y).nan_to_num(nan=0.0)


def pixel_levels(model: DGM) -> int | None:
    """How many values a pixel can have, if the model knows."""
    found: int | None = getattr(model, "quantization", None)
    return found


def invertible(model: DGM) -> Invertible:
    """The model, if it encodes and decodes.

    Raises:
        ModelError: it does not.
    """
    if not isinstance(model, Invertible):
        raise ModelError(
            f"FlowImageEvaluation encodes and decodes, but {type(model).__name__} is no limbeck flow: it has no encode "
            "and decode"
        )
    return model
