"""What a model costs: its number of parameters, and the images that it draws per second."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable

import torch
from torch import nn

from limbeck.errors import DataError

__all__ = ["parameter_count", "throughput"]


def throughput(sample: Callable[[int], object], batch_size: int, *, seconds: float = 1.0, repeats: int = 5) -> float:
    """Images per second of a sampler, wall-clock time.

    Two calls warm up (memory pools, kernel selection, lazy compilation); then ``repeats`` windows are timed, and the
    median window counts, so that another process that gets in the way once does not change the number. The sampler
    should switch gradients off itself; here they are off in any case.

    Args:
        sample: draws the given number of images, e.g. ``model.sample``.
        batch_size: images per call; rates for different batch sizes are not comparable.
        seconds: time for all windows together; every window makes at least one call, however long that takes.
        repeats: number of windows.

    Raises:
        DataError: no images per call, or no windows.

    >>> throughput(lambda rows: torch.zeros(rows, 3, 8, 8), batch_size=16, seconds=0.01) > 0
    True
    """
    if batch_size < 1 or repeats < 1:
        raise DataError(f"batch_size ({batch_size}) and repeats ({repeats}) must be at least 1.")
    rates = []
    with torch.no_grad():
        for _ in range(2):
            sample(batch_size)
        for _ in range(repeats):
            _synchronize()
            start = time.perf_counter()
            images = 0
            elapsed = 0.0
            while images == 0 or elapsed < seconds / repeats:
                sample(batch_size)
                _synchronize()
                images += batch_size
                elapsed = time.perf_counter() - start
            rates.append(images / max(elapsed, 1e-9))
    return statistics.median(rates)


def parameter_count(parameters: Iterable[nn.Parameter]) -> int:
    """Number of scalars in the parameters; a parameter used in several places counts once.

    >>> layer = nn.Linear(3, 2)
    >>> parameter_count([*layer.parameters(), *layer.parameters()])
    8
    """
    return sum(parameter.numel() for parameter in {id(p): p for p in parameters}.values())


def _synchronize() -> None:
    """Wait for work that was only queued. Asking an unused device would start it and take its memory."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()
