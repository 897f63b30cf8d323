"""The training step of every method as one Lightning module: there is no other training loop in the library."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, Self

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.objective import Objective
from limbeck.core.trace import KEEP_DISTRIBUTION
from limbeck.engine.pairs.recorded import RecordedTeacher
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.options import Training
from limbeck.engine.stages.seeding import derive_seed
from limbeck.engine.training.compiling import LossOfStep, plain_loss
from limbeck.errors import ModelError, NonFiniteLossError

__all__ = ["Companions", "StudentModule"]


class Companions:
    """What a training step reads but does not train: it stays out of checkpoints, of DDP and of deep copies (EMA)."""

    def __init__(self, teacher: DGM | None, batches: Batches | None, asked: Tensor | None = None) -> None:
        self.teacher = teacher
        self.batches = batches
        self.asked = asked

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class StudentModule(lightning.LightningModule):
    """Minimises an objective over a student (and over the objective's own parameters, if it has any).

    Every random number of a step comes from a seed that is a function of (seed, step, rank): a run that continues from
    a checkpoint repeats the numbers of one that never stopped.
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
        # Asking a GPU after each step whether a number is finite would stall it, and of several processes all have to
        # stop: there the history asks for us.
        self.check_every_step = True

    def on_fit_start(self) -> None:
        """Put the teacher where the student is."""
        if self.companions.teacher is not None:
            self.companions.teacher.to(self.device)
        self.check_every_step = self.device.type == "cpu" and self.trainer.world_size == 1

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        """One step; the data loader only counts, rows are chosen by the number of the step."""
        step, companions = self.global_step, self.companions
        self.reseed("step", step, self.global_rank)
        world = self.trainer.world_size
        progress = step / self.options.steps
        rows = None if companions.batches is None else companions.batches(step, self.global_rank, world)
        if rows is not None:
            rows = self.placed(rows)
        size = self.options.batch_size // world
        asked = self.asked(size)
        with self.explained(step):
            count = size if rows is None and asked is None else None
            loss = self.loss_of(self.objective, companions.teacher, self.student, count, asked, rows, progress)
        self.latest = loss
        if self.check_every_step:
            self.check_finite(float(loss.total.detach()), loss.terms, step)
        return loss.total

    def asked(self, size: int) -> Tensor | None:
        """Conditioning inputs that the teacher is asked for, shape (size, ...); ``None`` for those of the batch."""
        teacher, asked = self.companions.teacher, self.companions.asked
        if isinstance(teacher, RecordedTeacher):
            return teacher.choose(size)
        return None if asked is None else self._placed(asked[torch.randint(len(asked), (size,))])

    def reseed(self, *labels: str | int) -> None:
        """Seed all noise from here on for one purpose; see :func:`limbeck.engine.stages.seeding.derive_seed`."""
        seed = derive_seed(self.seed, *labels)
        # torch.manual_seed formats a stack trace for every kind of device that the machine does not have.
        (torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed)(seed)

    @contextlib.contextmanager
    def explained(self, step: int, where: str = "") -> Iterator[None]:
        """Distributions that check their parameters notice before the loss does: say what happened.

        Raises:
            NonFiniteLossError: names the step, and the weight or the parameter of a distribution.
        """
        try:
            yield
        except ValueError as error:
            self.check_weights(step)
            found = re.match(r"Expected parameter (\w+) .* of distribution (\w+)", str(error))
            if found:
                at = f"at step {step}{where and f' {where}'}"
                self._stop(f"the {found[1]} of a {found[2]} became non-finite or left its range {at}.")
            raise

    def placed(self, rows: Batch) -> Batch:
        """Rows where the student is and in its precision."""
        return Batch(self._placed(rows.y), None if rows.x is None else self._placed(rows.x))

    def _placed(self, rows: Tensor) -> Tensor:
        """Rows on the student's device and, unless they are labels, in its precision."""
        like = first_parameter(self.student, rows)
        return rows.to(self.device, like.dtype if rows.is_floating_point() else None)

    def check_finite(self, total: float, terms: Mapping[str, float | Tensor], step: int) -> None:
        """Stop when the loss is NaN or infinite.

        Raises:
            NonFiniteLossError: names the step, the terms, and the first weight or site that is non-finite.
        """
        if not math.isfinite(total):
            plain = {name: term.item() if isinstance(term, Tensor) else term for name, term in terms.items()}
            values = ", ".join(f"{name} = {value:.4g}" for name, value in plain.items())
            self._stop(f"the loss became non-finite at step {step}: {values}.{self._first_bad_site()}")

    def check_weights(self, step: int) -> None:
        """Stop when the weights are not worth keeping: a finite loss can have a gradient that is not.

        Raises:
            NonFiniteLossError: names the step and the first weight that is non-finite.
        """
        found = self._first_bad_weight()
        if found:
            self._stop(f"the weights became non-finite at step {step}:{found}")

    def _stop(self, text: str) -> NoReturn:
        raise NonFiniteLossError(
            f"{text} The last good checkpoint is kept. Lower the learning rate, set gradient_clip, or check the data "
            "for extreme values."
        )

    @torch.no_grad()
    def _first_bad_weight(self) -> str:
        for name, parameter in self.named_parameters():  # with those of a learned divergence
            bad = int((~torch.isfinite(parameter)).sum())
            if bad:
                return f" The weight {name} has {bad} non-finite values of {parameter.numel()}."
        return ""

    @torch.no_grad()
    def _first_bad_site(self) -> str:
        found = self._first_bad_weight()
        if found:
            return found
        batch = None if self.companions.batches is None else self.companions.batches(self.global_step)
        x = None if batch is None or batch.x is None else self._placed(batch.x)
        size = self.options.batch_size if x is None else None
        teacher = self.companions.teacher
        if isinstance(teacher, RecordedTeacher):
            teacher = teacher.source
        for who, model in (("teacher", teacher), ("student", self.student)):
            if model is None:
                continue
            try:
                trace = model.trace(size, x, keep=lambda name, kind: KEEP_DISTRIBUTION)
            except ValueError as error:
                return f" The {who}: {str(error).splitlines()[0]}."
            for name, site in trace.items():
                for key in getattr(site.distribution, "arg_constraints", {}):
                    value = getattr(site.distribution, key, None)
                    if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
                        bad = int((~torch.isfinite(value)).sum())
                        return (
                            f" The {who}'s site {name!r} has {bad} of {value.numel()} non-finite values in its {key}."
                        )
        return " The weights are still finite."

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser and its schedule, a step at a time."""
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
            # One fused update of all weights: a small student's step is otherwise mostly the optimiser's bookkeeping.
            optimizer = kind(parameters, lr=options.learning_rate, betas=options.betas,
                             weight_decay=options.weight_decay, fused=True)  # fmt: skip
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, options.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _groups(self) -> list[nn.Parameter] | list[dict[str, Any]]:
        """What is trained; apart, where there are any, parameters that a penalty on weights must leave alone."""
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
