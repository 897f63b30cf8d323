"""Features of drawings from a small network that has learned to predict the next point, without labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from limbeck.metrics.drawing_shape import drawing_lengths

__all__ = ["StrokePredictor"]


class StrokePredictor(nn.Module):
    """A recurrent network that predicts the next point of a drawing; what it remembers are the features.

    Sets of drawings seldom have labels that fit all of their drawings, so there is nothing to classify. Prediction
    needs none, and favours no model if it is learned from real drawings.

    Args:
        shift: mean offset (dx, dy) of the training drawings.
        scale: standard deviation of the same.
        width: number of features.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: tuple[float, float], scale: tuple[float, float], width: int = 48) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(shift))
        self.register_buffer("scale", torch.tensor(scale))
        self.recurrence = nn.GRU(4, width, batch_first=True)
        self.head = nn.Linear(width, 4)

    @override
    def forward(self, strokes: Tensor) -> Tensor:
        """Mean of the hidden states over a drawing's points.

        Args:
            strokes: shape (rows, length, 4): dx, dy, pen, end.

        Returns:
            Shape (rows, width).
        """
        hidden, there = self._hidden(strokes)
        return (hidden * there[..., None]).sum(1) / there.sum(1, keepdim=True)

    def loss(self, strokes: Tensor) -> Tensor:
        """Error of the predictions: absolute of the offsets in standard deviations, cross-entropy of pen and end.

        Args:
            strokes: as for :meth:`forward`.

        Returns:
            Mean over all points but each drawing's first; shape ().
        """
        hidden, there = self._hidden(strokes)
        predicted, truth = self.head(hidden[:, :-1]), self._normalised(strokes)[:, 1:]
        offset = (predicted[..., :2] - truth[..., :2]).abs().sum(2)
        flags = F.binary_cross_entropy_with_logits(predicted[..., 2:], truth[..., 2:], reduction="none").sum(2)
        counted = there[:, 1:]
        result: Tensor = ((offset + flags) * counted).sum() / counted.sum().clamp(min=1)
        return result

    def _normalised(self, strokes: Tensor) -> Tensor:
        return torch.cat([(strokes[..., :2] - self.shift) / self.scale, strokes[..., 2:]], dim=2)

    def _hidden(self, strokes: Tensor) -> tuple[Tensor, Tensor]:
        there = torch.arange(strokes.shape[1], device=strokes.device) < drawing_lengths(strokes)[:, None]
        hidden: Tensor = self.recurrence(self._normalised(strokes))[0]
        return hidden, there.to(strokes.dtype)
