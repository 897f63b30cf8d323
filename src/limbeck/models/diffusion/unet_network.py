"""Diffusers' U-Net from plain settings, with messages a person can act on."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

from limbeck.errors import ModelError

__all__ = ["build_unet"]

_COUNTS = ("block_out_channels", "layers_per_block", "norm_num_groups", "attention_head_dim")


def build_unet(settings: dict[str, Any]) -> Any:
    """A fresh ``diffusers.UNet2DModel`` for images, which it returns in the size and channels that it was shown.

    Args:
        settings: its arguments; lists may stand for tuples.

    Raises:
        ModelError: diffusers is missing, an argument is unknown or impossible, or the images do not fit the network.
    """
    try:
        from diffusers import UNet2DModel
    except ImportError:
        raise ModelError("diffusion models need diffusers; install limbeck[diffusion]") from None
    known: Sequence[str] = [*inspect.signature(UNet2DModel.__init__).parameters][1:]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            told = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(known)}"
            raise ModelError(f"unet: {name!r} is no argument of diffusers.UNet2DModel{told}")
    missing = [name for name in ("sample_size", "in_channels", "out_channels") if settings.get(name) is None]
    if missing:
        raise ModelError(f"unet: {missing[0]} is needed: the size of the images in pixels, or their channels")
    if settings["in_channels"] != settings["out_channels"]:
        raise ModelError("unet: in_channels and out_channels are both the channels of the images; make them equal")
    for name in _COUNTS:
        value = settings.get(name)
        numbers = value if isinstance(value, list | tuple) else [value]
        if value is not None and not (numbers and all(isinstance(number, int) and number > 0 for number in numbers)):
            raise ModelError(f"unet: {name} must be positive, not {value!r}")
    _check_size(settings, inspect.signature(UNet2DModel.__init__).parameters["down_block_types"].default)
    try:
        network = UNet2DModel(**{name: _tuples(value) for name, value in settings.items()})
    except (ValueError, TypeError) as error:
        raise ModelError(f"unet: {error}") from None
    if network.config.num_class_embeds is None and network.config.class_embed_type is not None:
        raise ModelError("unet: of conditions only classes are supported: give num_class_embeds")
    return network


def _check_size(settings: dict[str, Any], levels: Sequence[str]) -> None:
    """Every level but the last halves the images; what is not whole would come back in another size."""
    halved = 2 ** (len(settings.get("down_block_types", levels)) - 1)
    size = settings["sample_size"]
    sides = [size] if isinstance(size, int) else list(size)
    if len(sides) > 2 or any(not isinstance(side, int) or side < 1 or side % halved for side in sides):
        raise ModelError(
            f"unet: images of size {size} cannot be halved at each of {halved.bit_length() - 1} levels; choose a "
            f"multiple of {halved}, or fewer blocks"
        )


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
