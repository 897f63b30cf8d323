"""Samples of a teacher without those that its own arithmetic does not bear out."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.core.coupling.coupling import frozen
from limbeck.core.graph import DGM
from limbeck.core.trace import KEEP_NOTHING, KEEP_VALUE, Kind
from limbeck.errors import MatchError

__all__ = ["sifted_samples"]

_CHUNK = 4096
_TOLERANCE = 1e-2  # of a latent, in units of its standard deviation


@torch.no_grad()
def sifted_samples(teacher: DGM, rows: int, trim: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """Samples that the teacher's inference leads back to where they came from, without the least likely of them.

    In one of some hundreds or thousands the inverse of a deep autoregressive flow multiplies scales until the sample is
    far from anything it was trained on: 1e8, even 1e23, where the data reach 30. The worst have left the number format
    and are no samples at all; the others are, but one of them outweighs thousands of rows in any mean.

    Args:
        teacher: a model with both programs; where its inference tells ``log_prob``, that says what is likely.
        rows: how many to draw.
        trim: the part that is left out as least likely, in [0, 1).
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
    """Samples and log densities; the latter are 0 for a teacher that does not tell them.

    Returns:
        Shapes (up to rows, ...) and (up to rows,).
    """
    with frozen(teacher):
        drawn = teacher.trace(rows, keep=_random_values, generator=generator)
        y = teacher.join_targets(drawn.targets)
        inferred = teacher.trace_inference(y, keep=_values)
    good = y.flatten(1).isfinite().all(1)
    density = good.to(y.dtype)
    for name, site in inferred.items():
        assert site.value is not None
        if name in drawn.values:
            value = drawn.values[name]
            away = (site.value - value).abs() / (1 + value.abs())
            good &= (away < _TOLERANCE).flatten(1).all(1)
        elif name == "log_prob":
            density = site.value
            good &= density.isfinite()
    return y[good], density[good]


def _random_values(name: str, kind: Kind) -> int:
    return KEEP_NOTHING if kind is Kind.DETERMINISTIC else KEEP_VALUE


def _values(name: str, kind: Kind) -> int:
    return KEEP_VALUE if name == "log_prob" else _random_values(name, kind)
