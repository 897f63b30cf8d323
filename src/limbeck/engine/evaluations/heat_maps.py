"""Heat maps of what a student knows of the teacher's features, as one picture ([V] Fig. 2, 4)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from limbeck.pictures import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save_likelihoods"]

_LOW, _HIGH = 0.02, 0.98  # quantiles that get the ends of the colours


def save_likelihoods(
    path: Path,
    images: Tensor,
    magnitudes: Mapping[str, Tensor],
    times: Mapping[float, Mapping[str, Tensor]],
    afterwards: Mapping[str, Tensor] | None = None,
) -> None:
    """Draw, for each image and layer, the image, the feature's magnitude, and log q over the training.

    The maps of a row share one scale of colours, set without the untrained student's map, which would dominate it.

    Args:
        path: the picture.
        images: shape (images, channels, height, width), in [0, 1].
        magnitudes: site to shape (images, h, w).
        times: fraction of the training to site to log-likelihood, shape (images, h, w).
        afterwards: the same, for a student without transfer whose divergences were fitted when it was trained.
    """
    save_figure(_drawn(images, magnitudes, times, afterwards), path)


def _drawn(
    images: Tensor,
    magnitudes: Mapping[str, Tensor],
    times: Mapping[float, Mapping[str, Tensor]],
    afterwards: Mapping[str, Tensor] | None,
) -> Figure:
    from matplotlib.figure import Figure

    heads = ["image", "|t|", *(f"{100 * fraction:g} %" for fraction in times)]
    heads += ["no transfer"] if afterwards is not None else []
    sites, count = list(magnitudes), len(images)
    figure = Figure(figsize=(0.85 * len(heads) + 0.5, 0.85 * count * len(sites) + 0.3), dpi=130, layout="constrained")
    cells: Any = figure.subplots(count * len(sites), len(heads), squeeze=False)
    for number, row in enumerate(cells):
        site, image = sites[number // count], number % count
        picture = images[image].clamp(0, 1)
        shape = tuple(picture.shape[1:])
        row[0].imshow(picture.permute(1, 2, 0).squeeze(-1), cmap="gray", vmin=0, vmax=1)
        row[1].imshow(_enlarged(magnitudes[site][image], shape), cmap="viridis")
        maps = [found[site][image] for found in times.values()]
        maps += [afterwards[site][image]] if afterwards is not None else []
        trained = maps[1:] if len(maps) > 1 and 0.0 in times else maps
        low, high = torch.stack(trained).flatten().quantile(torch.tensor([_LOW, _HIGH])).tolist()
        for cell, found in zip(row[2:], maps, strict=True):
            cell.imshow(_enlarged(found, shape), cmap="jet", vmin=low, vmax=max(high, low + 1e-6))
        if image == 0:
            row[0].set_ylabel(site, fontsize=8)
        for cell in row:
            cell.set(xticks=[], yticks=[])
    for cell, head in zip(cells[0], heads, strict=True):
        cell.set_title(head, fontsize=8)
    return figure


def _enlarged(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """At the image's size, shape (height, width)."""
    found = torch.nn.functional.interpolate(values[None, None], size=shape, mode="bilinear", align_corners=False)
    return found[0, 0]
