"""What a model may say of its own training, besides its programs; all of it is optional."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from limbeck.core.loss import Batch, Loss
from limbeck.errors import ModelError

if TYPE_CHECKING:
    from limbeck.core.graph import DGM

__all__ = ["Trainable"]


class Trainable(nn.Module):
    """How a :class:`~limbeck.DGM` learns from data, how it is initialised, and which of its parameters generate."""

    config: dict[str, Any]
    batch_norms_folded: bool = False
    """Whether :func:`limbeck.prepare` took batch norms out of it: other weights than those of a model of its class."""

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        """The loss that trains this model on data without a teacher, optional.

        Args:
            batch: rows of data.
            progress: fraction of the training that is done, in [0, 1], for warm-up schedules.

        Returns:
            The loss, averaged over the batch.
        """
        raise ModelError(f"{type(self).__name__} cannot be trained on data; define loss(self, batch, *, progress=1.0)")

    def adapt(self, batch: Batch) -> None:
        """Set constants that depend on the data, such as a normalisation; by default there are none.

        Called once before a training that starts anew, with rows of the training data, or with samples of the teacher
        if the student sees no data. What it sets belongs in buffers, so that it is saved with the weights; a model that
        was adapted before, or starts from weights that were, must stay as it is.

        Args:
            batch: rows as in :meth:`loss`.
        """

    def start_from(self, source: DGM) -> None:
        """Take over another model's weights before a training: here all of them, from a model of the same architecture.

        Override it where a part of a larger model is a good start for a smaller one.

        Args:
            source: the model, usually the teacher.

        Raises:
            ModelError: its weights do not fit.
        """
        try:
            if type(self) is not type(source):
                raise RuntimeError
            self.load_state_dict(source.state_dict())
        except RuntimeError:
            raise ModelError(
                f"{type(self).__name__} {self.config} cannot start from the weights of {type(source).__name__} "
                f"{source.config}; give both one architecture, or start: random"
            ) from None

    def observed(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Rows of data as the programs see them, by default as they are.

        Models of continuous values whose data are discrete add the noise of dequantisation here, so that teacher and
        student see a row with the same noise.

        Args:
            y: rows of data, shape (batch, ...), as in a :class:`~limbeck.core.loss.Batch`.
            generator: source of noise.

        Returns:
            Shape (batch, ...), a new tensor if it differs.
        """
        return y

    @property
    def taps(self) -> frozenset[str]:
        """Paths of submodules whose own outputs the programs declare as sites; by default none.

        :func:`limbeck.prepare` may compute a layer and the norm after it in one operation, but not where the value
        between them is a site.
        """
        return frozenset()

    def inference_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters used only by :meth:`infer`; distillation of ``generate`` neither compresses nor trains them."""
        return ()

    def generative_parameters(self) -> list[nn.Parameter]:
        """All other parameters: what a deployed generator consists of."""
        inference = {id(parameter) for parameter in self.inference_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in inference]
