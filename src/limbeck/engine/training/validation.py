"""Validation during a training: the weights with the smallest loss on held-out rows are kept."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor
from typing_extensions import override

from limbeck.core.frozen import frozen
from limbeck.engine.settings.options import Training
from limbeck.engine.stages.progress import Progress
from limbeck.engine.training.finiteness import check_weights, explained
from limbeck.engine.training.held_out import HeldOut
from limbeck.engine.training.module import StudentModule
from limbeck.errors import NonFiniteLossError

__all__ = ["Validation"]


class Validation(Callback):
    """Measures a student on held-out rows, keeps its best weights, and stops when they get no better.

    The noise of a row is the same each time, so that two validations differ by the weights alone.

    Lightning's own validation loop cannot be used. When a training continues from a checkpoint of a step that a
    validation follows, it skips that validation; and its checkpoints would hold neither the best weights nor the
    decision to stop.

    Args:
        held_out: the rows, and the loss on them.
        options: how often to validate, and after how many validations without improvement to stop; its
            ``validate_every`` must be set.
        progress: receives the loss.
        average: holds the weights to be measured, if those are a moving average.

    Attributes:
        latest: step and loss of the last validation.
        best: smallest loss so far; infinite before the first finite one.
        best_step: its step.
        stopped_at: step at which the training was stopped early; ``None`` if it was not.
    """

    def __init__(
        self, held_out: HeldOut, options: Training, progress: Progress, average: WeightAveraging | None = None
    ) -> None:
        assert options.validate_every is not None
        self.held_out = held_out
        self.every = options.validate_every
        self.patience = options.patience
        self.progress = progress
        self.average = average
        self.latest: tuple[int, float] | None = None
        self.best = math.inf
        self.best_step = 0
        self.stopped_at: int | None = None
        self._weights: dict[str, Tensor] = {}
        self._waited = 0

    @override
    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        """Validate when it is time, and after the last step."""
        step = trainer.global_step
        if (step % self.every and step != trainer.max_steps) or (self.latest and self.latest[0] == step):
            return
        assert isinstance(module, StudentModule)
        check_weights(module, step)
        if self.average is not None:
            self.average.on_validation_epoch_start(trainer, module)
        try:
            loss = self._measure(trainer, module)
            self.latest = (step, loss)
            self.progress.validated(loss)
            if loss < self.best:
                self.best, self.best_step, self._waited = loss, step, 0
                self._weights = {name: value.detach().clone() for name, value in module.state_dict().items()}
            else:
                self._waited += 1
        finally:
            if self.average is not None:
                self.average.on_validation_epoch_end(trainer, module)
        if self.patience is not None and self._waited >= self.patience and step < trainer.max_steps:
            self.stopped_at = step
            trainer.should_stop = True

    def _measure(self, trainer: lightning.Trainer, module: StudentModule) -> float:
        """The student's loss, a mean over all rows, which the processes share; infinite where it is NaN."""
        total = 0.0
        training = module.objective.training
        module.objective.eval()
        with frozen(module.student), trainer.precision_plugin.val_step_context():
            for number, size in self.held_out.parts():
                if number % trainer.world_size == trainer.global_rank:
                    with explained(module, trainer.global_step, f"on {self.held_out.name}"):
                        loss = self.held_out.loss(module, number, size).total
                    total += float(loss) * size / self.held_out.count
        module.objective.train(training)
        if trainer.world_size > 1:
            total = float(trainer.strategy.reduce(torch.tensor(total, device=module.device), reduce_op="sum"))
        return math.inf if math.isnan(total) else total

    @override
    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """End with the best weights.

        Raises:
            NonFiniteLossError: no validation gave a finite loss.
        """
        if not self._weights:
            raise NonFiniteLossError(
                f"the loss on the {self.held_out.count} {self.held_out.name} was NaN or infinite each time, also at "
                f"step {trainer.global_step}: check these for extreme values, or lower the learning rate."
            )
        module.load_state_dict(self._weights)

    @override
    def state_dict(self) -> dict[str, Any]:
        """Best weights and counters, for the checkpoint."""
        return {
            "latest": self.latest, "best": self.best, "best_step": self.best_step, "weights": self._weights,
            "waited": self._waited,
        }  # fmt: skip

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        self.latest, self.best, self.best_step = state_dict["latest"], state_dict["best"], state_dict["best_step"]
        self._weights, self._waited = state_dict["weights"], state_dict["waited"]
