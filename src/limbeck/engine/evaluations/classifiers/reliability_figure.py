"""The reliability diagram of a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limbeck.metrics import Reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["reliability_figure"]


def reliability_figure(diagram: Reliability, error: float) -> Figure:
    """Accuracy over confidence, and below how many predictions each bin holds.

    Args:
        diagram: the predictions in bins.
        error: their calibration error, the title.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2, 3.2), dpi=160, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = diagram.edges.diff()
    centre = diagram.edges[:-1] + width / 2
    upper.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle="--")
    upper.bar(centre, diagram.accuracy.nan_to_num(0.0), width=0.9 * width, color="#2b6cb0")
    upper.plot(diagram.confidence, diagram.accuracy, "o", color="black", markersize=3)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.set_title(f"ECE {error:.4f}", fontsize="medium")
    lower.bar(centre, diagram.share, width=0.9 * width, color="0.6")
    lower.set(xlabel="confidence", ylabel="share", ylim=(0, 1))
    return figure
