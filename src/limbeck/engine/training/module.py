"""The training step of every method as one Lightning module: there is no other training loop in the library."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.objective import Objective
from limbeck.core.stand_in import StandIn, real_model
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.options import Training
from limbeck.engine.settings.precision import like_weights
from limbeck.engine.stages.seeding import derive_seed
from limbeck.engine.training.compiling import LossOfStep, plain_loss
from limbeck.engine.training.finiteness import (
    explained,
    first_bad_rows,
    first_bad_site,
    first_bad_weight,
    stop_at_loss,
)
from limbeck.errors import ModelError

__all__ = ["Companions", "StudentModule"]


class Companions:
    """What a training step reads but does not train; it stays out of checkpoints, of DDP and of deep copies (EMA).

    Args:
        teacher: the frozen model, if there is one.
        batches: the rows of each step, if there are data.
        teacher_inputs: conditioning inputs to draw from for the teacher, shape (inputs, ...), if they are not those of
            the batch.
    """

    def __init__(self, teacher: DGM | None, batches: Batches | None, teacher_inputs: Tensor | None = None) -> None:
        self.teacher = teacher
        self.batches = batches
        self.teacher_inputs = teacher_inputs

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class StudentModule(lightning.LightningModule):
    """Minimises an objective over a student, and over the objective's own parameters if it has any.

    Every random number of a step comes from a seed that is a function of (seed, step, rank). So a run that continues
    from a checkpoint repeats the numbers of one that never stopped.

    Args:
        student: the model to train.
        objective: what to minimise.
        companions: the teacher and the rows.
        options: optimiser, steps, batch size.
        seed: fixes all noise.
        loss_of: computes the loss of a step.

    Attributes:
        latest: loss of the last step.
        check_every_step: whether each step checks that its loss is finite. If not, the history does when it logs.
    """

    def __init__(
        self,
        student: DGM,
        objective: Objective,
        companions: Companions,
        options: Training,
        seed: int,
        loss_of: LossOfStep = plain_loss,
    ) -> None:
        super().__init__()
        self.student = student
        self.objective = objective
        self.companions = companions
        self.options = options
        self.seed = seed
        self.latest: Loss | None = None
        self.loss_of = loss_of
        # Reading a number back after each step would stall a GPU, and several processes have to stop together. There
        # the history checks, when it logs.
        self.check_every_step = True

    @override
    def on_fit_start(self) -> None:
        """Move the teacher to the student's device."""
        if self.companions.teacher is not None:
            self.companions.teacher.to(self.device)
        self.check_every_step = self.device.type == "cpu" and self.trainer.world_size == 1

    @override
    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        """Do one step. The data loader only counts: rows are chosen by the number of the step."""
        step, companions = self.global_step, self.companions
        self.reseed("step", step, self.global_rank)
        world = self.trainer.world_size
        progress = step / self.options.steps
        rows = None if companions.batches is None else companions.batches(step, self.global_rank, world)
        if rows is not None:
            rows = self.placed(rows)
        size = self.options.batch_size // world
        x = self.teacher_inputs(size)
        with explained(self, step):
            count = size if rows is None and x is None else None
            loss = self.loss_of(self.objective, companions.teacher, self.student, count, x, rows, progress)
        self.latest = loss
        if self.check_every_step:
            self.check_finite(float(loss.total.detach()), loss.terms, step)
        return loss.total

    def teacher_inputs(self, size: int) -> Tensor | None:
        """Draw the teacher's conditioning inputs, shape (size, ...); ``None`` if they are those of the batch."""
        teacher, inputs = self.companions.teacher, self.companions.teacher_inputs
        if isinstance(teacher, StandIn) and teacher.chooses_inputs:
            return teacher.choose(size)
        return None if inputs is None else self._placed(inputs[torch.randint(len(inputs), (size,))])

    def reseed(self, *labels: str | int) -> None:
        """Seed all noise that follows for one purpose; see :func:`limbeck.engine.stages.seeding.derive_seed`."""
        seed = derive_seed(self.seed, *labels)
        # torch.manual_seed formats a stack trace for every kind of device that the machine does not have.
        (torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed)(seed)

    def placed(self, rows: Batch) -> Batch:
        """Rows on the student's device and in its precision."""
        return Batch(self._placed(rows.y), None if rows.x is None else self._placed(rows.x))

    def _placed(self, rows: Tensor) -> Tensor:
        """Rows on the student's device and, unless they are labels, in its precision."""
        return like_weights(self.student, rows, self.device)

    def check_finite(self, total: float, terms: Mapping[str, float | Tensor], step: int) -> None:
        """Stop when the loss is NaN or infinite.

        Args:
            total: the loss.
            terms: its terms, by name.
            step: number of the step.

        Raises:
            NonFiniteLossError: names the step, the terms, and the first weight or site that is not finite.
        """
        if not math.isfinite(total):
            stop_at_loss(terms, step, first_bad_weight(self) or self._first_bad_site())

    def _first_bad_site(self) -> str:
        """What is not finite in rows or sites, looked for in the same rows and with the noise of the step."""
        companions, step, size = self.companions, self.global_step, self.options.batch_size
        self.reseed("step", step, self.global_rank)
        rows = None if companions.batches is None else self.placed(companions.batches(step))
        x = self.teacher_inputs(size)
        if x is None and rows is not None:
            x = rows.x
        models = {"student": self.student}
        if companions.teacher is not None:
            models = {"teacher": real_model(companions.teacher), **models}
        found = first_bad_rows({"y": None if rows is None else rows.y, "x": x})
        return found or first_bad_site(models, size if x is None else None, x)

    @override
    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser, and its learning rate for each step."""
        options = self.options
        parameters = self._groups()
        optimizer: torch.optim.Optimizer
        if options.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                parameters, lr=options.learning_rate, momentum=options.momentum, nesterov=options.nesterov,
                weight_decay=options.weight_decay,
            )  # fmt: skip
        else:
            kind = torch.optim.Adam if options.optimizer == "adam" else torch.optim.AdamW
            # One fused update of all weights: otherwise a small student's step is mostly the optimiser's bookkeeping.
            optimizer = kind(parameters, lr=options.learning_rate, betas=options.betas,
                             weight_decay=options.weight_decay, fused=True)  # fmt: skip
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, options.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _groups(self) -> list[nn.Parameter] | list[dict[str, Any]]:
        """What is trained; parameters that weight decay must leave alone are a group of their own, if there are any."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if not trained:
            kind = type(self.student).__name__
            raise ModelError(f"{kind} has no weights to train: give it some, or set requires_grad on those that it has")
        apart = {id(parameter) for parameter in self.objective.undecayed()}
        free = [parameter for parameter in trained if id(parameter) in apart]
        if not free:
            return trained
        decayed = [parameter for parameter in trained if id(parameter) not in apart]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
        return groups
