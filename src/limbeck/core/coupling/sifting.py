"""Samples of a teacher without those that are numerically broken."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.trace import KEEP_VALUE, Kind, keep_fields
from limbeck.errors import MatchError

__all__ = ["sifted_samples"]

_RANDOM_VALUES = keep_fields(KEEP_VALUE, Kind.LATENT, Kind.TARGET)
_CHUNK = 4096
_TOLERANCE = 1e-2  # of a latent, in units of its standard deviation


@torch.no_grad()
def sifted_samples(teacher: DGM, rows: int, trim: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """Samples that the teacher's inference program maps back to their latents, without the least likely of them.

    For about one sample in hundreds or thousands, the inverse of a deep autoregressive flow multiplies scales until the
    sample is far from anything that the flow was trained on: 1e8, even 1e23, where the data reach 30. The worst exceed
    the number format and are not samples of the model at all; the others are, but any one of them outweighs thousands
    of rows in a mean.

    Args:
        teacher: a model with both programs; where its inference program declares ``log_prob``, that decides what is
            likely.
        rows: how many to draw.
        trim: fraction that is left out as least likely, in [0, 1).
        generator: source of noise.

    Returns:
        Shape (up to rows, ...), in the order in which they were drawn.

    Raises:
        MatchError: not a single sample returns.
    """
    sizes = [_CHUNK] * (rows // _CHUNK) + [rows % _CHUNK]
    parts = [_returning(teacher, size, generator) for size in sizes if size]
    drawn, density = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    if not len(drawn):
        raise MatchError(
            "none of the teacher's samples returns to its latents: its inverse is numerically broken; train it with "
            "bounded scales, in double precision, or use rows of data"
        )
    kept = density.argsort(descending=True)[: len(drawn) - int(trim * len(drawn))]
    return drawn[kept.sort().values]


def _returning(teacher: DGM, rows: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Samples that return to their latents, and their log densities.

    The densities are all equal for a teacher that does not compute them.

    Returns:
        Shapes (up to rows, ...) and (up to rows,).
    """
    with frozen(teacher):
        drawn = teacher.trace(rows, keep=_RANDOM_VALUES, generator=generator)
        y = teacher.join_targets(drawn.targets)
        inferred = teacher.trace_inference(y, keep=_values)
    good = y.flatten(1).isfinite().all(1)
    density = good.to(y.dtype)
    for name, site in inferred.items():
        if name in drawn.values:
            value = drawn.values[name]
            away = (site.kept_value() - value).abs() / (1 + value.abs())
            good &= (away < _TOLERANCE).flatten(1).all(1)
        elif name == "log_prob":
            density = site.kept_value()
            good &= density.isfinite()
    return y[good], density[good]


def _values(name: str, kind: Kind) -> int:
    return KEEP_VALUE if name == "log_prob" else _RANDOM_VALUES(name, kind)
