"""What a VRNN is built of: networks, and drawings seen step by step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from limbeck.core.sites import Sites
from limbeck.errors import ModelError

__all__ = ["Recurrence", "State", "alive_steps", "detached", "given_steps", "network", "steps_of"]

State = tuple[Tensor, Tensor]
"""Output and cell of an LSTM, each of shape (..., batch, width)."""


class Recurrence(nn.LSTM):
    """A single-layer LSTM over features of a step and of its latent, by single steps or all at once."""

    def step(self, seen: Tensor, features: Tensor, state: State) -> State:
        """The next state.

        Args:
            seen: features of y, shape (batch, features).
            features: features of z, the same.
            state: each of shape (batch, width).

        Returns:
            As ``state``.
        """
        weights: tuple[Any, ...] = (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)
        h, c = torch.lstm_cell(torch.cat([seen, features], dim=1), state, *weights)
        return h, c

    def states(self, seen: Tensor, features: Tensor, truncate: int | None = None) -> Tensor:
        """Outputs before each step, in as few calls as the truncation allows.

        Args:
            seen: features of y, shape (length, batch, features).
            features: features of z, the same.
            truncate: steps after which gradients stop flowing backwards; ``None``: never.

        Returns:
            Shape (length, batch, width), starting from zero.
        """
        inputs = torch.cat([seen, features], dim=2)[:-1]
        start = seen.new_zeros(1, seen.shape[1], self.hidden_size)
        state, parts = (start, start), [start]
        for part in torch.split(inputs, truncate or len(seen)) if len(inputs) else ():
            output, state = self(part, state)
            if truncate and len(part) == truncate:
                state = detached(state)
                output = torch.cat([output[:-1], state[0]])
            parts.append(output)
        return torch.cat(parts)


def network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A network with one hidden layer ([U] App. F.3), (..., inputs) to (..., outputs)."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def detached(state: State) -> State:
    """The same state, through which no gradient flows back."""
    return state[0].detach(), state[1].detach()


def alive_steps(y: Tensor) -> Tensor | None:
    """Which steps exist: those up to a drawing's end, itself included.

    Args:
        y: steps of shape (length, batch, 4), or (length, batch, 3) where drawings have no ends.

    Returns:
        Bool of shape (length, batch); ``None`` where all exist.

    Example:
        >>> alive_steps(torch.tensor([[0.0, 0.0, 0.0, 0.0], [5.0, 5.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])[:, None])[:, 0]
        tensor([ True,  True, False])
    """
    if y.shape[2] < 4:
        return None
    ended = (y[..., 3] != 0).cumsum(0) > 0
    return torch.cat([torch.ones_like(ended[:1]), ~ended[:-1]])


def given_steps(sites: Sites, name: str, steps: int) -> Tensor | None:
    """Values of the leading sites ``name[0]``, ``name[1]``, ... that were given to a run.

    Args:
        sites: of the run, before these are declared.
        name: without its index.
        steps: how many there can be.

    Returns:
        Shape (given, batch, ...); ``None`` if there are none.
    """
    found = []
    for step in range(steps):
        value = sites.given(f"{name}[{step}]")
        if value is None:
            break
        found.append(value)
    return torch.stack(found) if found else None


def steps_of(y: Tensor, steps: int, ends: bool) -> tuple[Tensor, Tensor | None]:
    """Drawings as steps, up to the end of the longest.

    Args:
        y: shape (batch, length, 4): (dx, dy, pen, end); or (batch, length, 3) where drawings have no ends.
        steps: largest length.
        ends: whether the end is part of a step; else it only tells which steps exist.

    Returns:
        Steps, shape (length, batch, 3 or 4), and which exist, as :func:`alive_steps`.

    Raises:
        ModelError: the shape is another.
    """
    if y.ndim != 3 or not 1 <= y.shape[1] <= steps or y.shape[2] not in (3 + ends, 4):
        raise ModelError(
            f"VRNN is built for drawings of shape (batch, up to {steps}, {3 + ends}) but got {tuple(y.shape)}; set its "
            "steps and ends, or max_length of the data"
        )
    y = y.transpose(0, 1)
    alive = alive_steps(y)
    if alive is not None:
        length = int(alive.any(1).sum())
        y, alive = y[:length], alive[:length]
    return y[..., : 3 + ends], alive
