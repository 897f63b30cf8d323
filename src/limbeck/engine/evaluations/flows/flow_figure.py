"""A picture of likelihoods row by row: where a student loses against its teacher, in the bulk or in the tail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LEVELS", "likelihood_figure"]

LEVELS = (0.01, 0.001)
"""Quantiles of the test log-likelihood beside the median."""

_POINTS = 1000


def likelihood_figure(teacher: Tensor, model: Tensor) -> Figure:
    """Quantiles of two log densities on the same rows, and of their difference; rows that are not finite are left out.

    Args:
        teacher: log densities in nats, shape (rows,).
        model: those of the model, shape (rows,).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.6), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    for values, colour, label, width in ((teacher, "0.6", "teacher", 3.0), (model, "#2b6cb0", "model", 1.2)):
        shares, ordered = _quantiles(values)
        left.plot(shares, ordered, color=colour, label=label, linewidth=width)
    left.set(xscale="log", xlabel="share of the test rows, %", ylabel="log-likelihood, nats")
    left.set_yscale("symlog", linthresh=10.0)
    left.legend(frameon=False)
    shares, ordered = _quantiles(teacher - model)
    right.plot(shares, ordered, color="#2b6cb0", linewidth=1.2)
    right.axhline(0.0, color="0.6", linewidth=0.8)
    right.set(xlabel="share of the test rows, %", ylabel="log teacher − log model, nats")
    right.set_yscale("symlog", linthresh=1.0)
    return figure


def _quantiles(values: Tensor) -> tuple[list[float], list[float]]:
    """Shares of the rows in percent, denser towards the smallest, and the value that each share does not exceed."""
    ordered = values[values.isfinite()].sort().values
    if not len(ordered):
        return [], []
    count = len(ordered)
    even = torch.linspace(0, 1, _POINTS)
    rank = torch.unique(torch.cat([even * count, count**even]).round().long().clamp(1, count))
    return (100 * rank / count).tolist(), ordered[rank - 1].tolist()
