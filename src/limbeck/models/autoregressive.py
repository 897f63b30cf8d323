"""A recurrent language model ([U] Eq. 3): a fully visible sequence of tokens, given x or not."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F
from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites
from limbeck.errors import ModelError
from limbeck.models.inputs import class_labels, flat_rows
from limbeck.models.sizes import check_positive

__all__ = ["Autoregressive"]


class Autoregressive(DGM):
    r"""Sequence of tokens ``y[0]``, ``y[1]``, ..., each a categorical target that sees all tokens before it.

    .. math:: p(y | x) = \prod_j p(y_j | y_{<j}, x)

    There are no latents: p(y | x) is computed exactly, one site after the other. A gated recurrent unit carries the
    tokens so far; its first state is a network with one hidden layer of x. Sequences have one length; shorter ones end
    with a padding token, which is a token like any other.

    Args:
        length: number of tokens.
        tokens: size of the vocabulary.
        inputs: number of values of one row of x; 0 for a model without x.
        width: size of the state.
        embedding: size of a token's embedding.

    Raises:
        ModelError: a size is not positive, or ``inputs`` is negative.

    Example:
        >>> model = Autoregressive(length=3, tokens=5)
        >>> model.trace(batch_size=2)
        Trace(y[0]: target, y[1]: target, y[2]: target)

    References:
        Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014.
    """

    def __init__(self, length: int, tokens: int, inputs: int = 0, width: int = 64, embedding: int = 16) -> None:
        super().__init__()
        check_positive(self, length=length, tokens=tokens, width=width, embedding=embedding)
        if inputs < 0:
            raise ModelError(f"Autoregressive: inputs must not be negative, but is {inputs}")
        self.length = length
        self.inputs = inputs
        # What precedes the first token is a token of its own, the last of the table.
        self.embedding = nn.Embedding(tokens + 1, embedding)
        self.encoder = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width)) if inputs else None
        self.recurrence = nn.GRU(embedding, width, batch_first=True)
        self.head = nn.Linear(width, tokens)

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """Draw the tokens one after the other, given ``x`` of shape (batch, ...) with ``inputs`` values a row."""
        given = [sites.given(f"y[{step}]") for step in range(self.length)]
        known = [token for token in given if token is not None]
        if len(known) == self.length:  # nothing is drawn: all steps at once
            for step, logits in enumerate(self.logits(torch.stack(known, dim=1), x).unbind(1)):
                sites.target(f"y[{step}]", Categorical(logits=logits, validate_args=False))
            return
        state = self._first_state(sites.batch_size, x)
        token = self._start(sites.batch_size)
        for step in range(self.length):
            hidden, state = self.recurrence(self.embedding(token)[:, None], state)
            token = sites.target(f"y[{step}]", Categorical(logits=self.head(hidden[:, 0]), validate_args=False))

    @override
    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        """Negative log-likelihood of the sequences, in nats a sequence.

        Args:
            batch: ``y`` the tokens, int64 of shape (batch, length); ``x`` of shape (batch, ...) if there are inputs.
            progress: not used.

        Returns:
            The single term ``y``.
        """
        y = self._sequences(batch.y)
        logits = self.logits(y, batch.x)
        rows = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(len(batch), -1).sum(1)
        return Loss.of({"y": rows.mean()})

    @override
    def join_targets(self, targets: Mapping[str, Tensor]) -> Tensor:
        """Tokens of a run as sequences, shape (batch, length)."""
        return torch.stack([targets[f"y[{step}]"] for step in range(self.length)], dim=1)

    @override
    def split_targets(self, y: Tensor, x: Tensor | None = None) -> dict[str, Tensor]:
        """Each target is a token of ``y``, shape (batch, length)."""
        return {f"y[{step}]": token for step, token in enumerate(self._sequences(y).unbind(1))}

    def logits(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        """Logits of every token given those before it: all steps in one call, as :meth:`generate` one by one.

        Args:
            y: tokens, int64 of shape (batch, length).
            x: shape (batch, ...), if there are inputs.

        Returns:
            Shape (batch, length, tokens).
        """
        y = self._sequences(y)
        before = torch.cat([self._start(len(y))[:, None], y[:, :-1]], dim=1)
        hidden, _ = self.recurrence(self.embedding(before), self._first_state(len(y), x))
        result: Tensor = self.head(hidden)
        return result

    def _sequences(self, y: Tensor) -> Tensor:
        if y.ndim != 2 or y.shape[1] != self.length:
            raise ModelError(
                f"Autoregressive is built for {self.length} tokens a row but got shape {tuple(y.shape)}; set its length"
            )
        return class_labels(self, y, y.shape, self.head.out_features)

    def _start(self, rows: int) -> Tensor:
        table = self.embedding
        return torch.full((rows,), table.num_embeddings - 1, dtype=torch.int64, device=table.weight.device)

    def _first_state(self, rows: int, x: Tensor | None) -> Tensor:
        """State before the first token, shape (1, batch, width)."""
        if self.encoder is None:
            return self.head.weight.new_zeros(1, rows, self.recurrence.hidden_size)
        if x is None:
            raise ModelError(
                f"Autoregressive with inputs={self.inputs} needs x, shape (batch, ...); give x or condition"
            )
        state: Tensor = self.encoder(flat_rows(self, x, self.inputs))
        return state[None]
