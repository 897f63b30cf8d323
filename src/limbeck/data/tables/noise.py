"""Noise that makes rounded columns continuous: without it a density can be made infinite where values repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from limbeck.errors import DataError

__all__ = ["Array", "Noise", "noise_amplitudes", "resolution"]

Array = npt.NDArray[np.float64]

Noise = Literal["auto"] | float | Sequence[float] | None
"""Amplitude of uniform noise: found for each column, one for all, one for each, or none."""

_DIGITS = 9  # decimals; a column that needs more of them counts as continuous
_LOOK = 1000  # rows that usually suffice to see that a column is continuous


def resolution(values: npt.NDArray[Any]) -> float:
    """Step of the finest regular grid on which all values lie; 0 for a continuous or constant column.

    It finds decimal grids, in steps such as 0.001, 5 or 100, and other grids if most values repeat.

    Args:
        values: finite numbers, shape (rows,), in the precision in which they were stored.

    >>> resolution(np.array([0.25, 1.5, 3.0])), resolution(np.array([1300.0, 400.0, 700.0]))
    (0.25, 300.0)
    >>> resolution(np.random.default_rng(0).normal(size=100))
    0.0
    """
    stored = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
    exact = values.astype(np.float64)
    error = float(np.finfo(stored).eps * np.abs(exact).max(initial=0.0))
    for digits in range(_DIGITS + 1):
        step = 10.0**-digits
        if step < 8 * error:
            break
        # A division rounds once more, by half a unit in the last place.
        if all(_on_grid(part, step, 2 * error) for part in (exact[:_LOOK], exact)):
            steps = np.diff(np.unique(np.rint(exact / step)))
            if steps.size == 0:
                return 0.0
            return float(np.gcd.reduce(steps.astype(np.int64))) * step if steps.max() < 2**53 else 0.0
    distinct = np.unique(exact)
    if 2 <= len(distinct) <= len(exact) / 2:
        gaps = np.diff(distinct)
        step = float(gaps.min())
        if step > 100 * error and _on_grid(gaps, step, 0.01 * step):
            return step
    return 0.0


def _on_grid(values: Array, step: float, tolerance: float) -> bool:
    scaled = values / step
    return bool(np.abs(scaled - np.rint(scaled)).max(initial=0.0) * step <= tolerance)


def noise_amplitudes(values: npt.NDArray[Any], noise: Noise, columns: Sequence[str], where: str) -> Array:
    """The amplitude of each column's noise.

    Args:
        values: all rows, shape (rows, columns).
        noise: what was asked for.
        columns: names.
        where: what to call the table in a message.

    Returns:
        Shape (columns,); 0 for columns that get none.

    Raises:
        DataError: the amplitudes are too many, too few or negative.
    """
    if noise is None:
        return np.zeros(len(columns))
    if isinstance(noise, str):
        if noise != "auto":
            raise DataError(f"{where}: noise is auto, an amplitude or a list of them, not {noise!r}.")
        return np.array([resolution(values[:, index]) for index in range(len(columns))])
    amplitudes = np.asarray(noise, dtype=np.float64)
    if amplitudes.ndim == 1 and len(amplitudes) != len(columns):
        raise DataError(
            f"{where}: noise lists {len(amplitudes)} amplitudes for {len(columns)} columns ({', '.join(columns)}); "
            "give one for each, 0 for columns without noise."
        )
    if not bool((amplitudes >= 0).all() & np.isfinite(amplitudes).all()):
        raise DataError(f"{where}: amplitudes of noise are finite and not negative, but they are {noise}.")
    return np.broadcast_to(amplitudes, (len(columns),))
