"""How a model is trained: plain typed settings, checked when they are made."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

from limbeck.data.images.augmentation import Augmentation
from limbeck.engine.settings.checks import check_numbers, check_whole
from limbeck.errors import RecipeError

__all__ = ["TrainerOptions", "Training"]

BETAS = (0.9, 0.999)
MOMENTUM = 0.9
MILESTONES = (0.3, 0.6, 0.8)  # [V] App. A.3: epochs 60, 120 and 160 of 200
DECAY = 0.2  # the same
_CHOICES: dict[str, tuple[str | None, ...]] = {
    "optimizer": ("adam", "adamw", "sgd"),
    "schedule": ("constant", "linear", "cosine", "steps"),
    "validate_on": ("rows", "pairs", None),
}


@dataclass(frozen=True)
class Training:
    """Optimisation of one model; the budget that student and baselines share.

    Attributes:
        steps: optimiser steps.
        batch_size: rows a step, over all devices together.
        learning_rate: peak learning rate.
        weight_decay: L2 penalty inside Adam or SGD; decoupled in AdamW.
        optimizer: update rule.
        betas: of Adam and AdamW: decay of the running means of gradient and squared gradient.
        momentum: of SGD: what remains of the last update in the next; 0 for none.
        nesterov: of SGD: whether the gradient counts as taken after the momentum's step.
        schedule: learning rate after warm-up: constant; falling to 0 along a line or a half cosine; or falling in
            steps.
        milestones: of the schedule in steps: when it falls, as increasing fractions of all steps ([V] App. A.3), so
            that a training on fewer rows has as many updates between them.
        decay: of the schedule in steps: factor of the learning rate at each milestone.
        warm_up: fraction of the steps over which the learning rate rises from 0.
        gradient_clip: largest gradient norm; ``None`` leaves gradients alone.
        ema: decay of an exponential moving average of the weights, which then are the result; ``None`` for none.
        checkpoint_every: steps between checkpoints.
        log_every: steps that one row of the history averages.
        validate_every: steps between validations, after each of which, and after the last step, the best weights so far
            are kept: they are the result. ``None``: the last weights.
        validate_on: what a validation measures. ``"rows"``: the model's own loss on validation rows. ``"pairs"``: what
            the training minimises, on draws of the teacher that the training never sees, the same each time ([D] App.
            B): pairs that were held out, or new ones; for methods that see no data. By default ``"rows"`` if there are
            any, also where the method itself sees no data, and ``"pairs"`` where a method without data learns from
            recorded ones or there are no rows.
        patience: so many validations in a row without a new best end the training; ``None`` for all steps. Schedules
            are still those of all ``steps``.
        snapshots: fractions of the steps at which it is written down where in a few images the student knows what the
            teacher sees, if its divergences are observation models: the picture of [V] Fig. 2.
        augmentation: random crops and flips of the training's images; ``None`` for the images as they are.
        compile: whether ``torch.compile`` makes one program of teacher, student and loss: worth its half a minute or
            so where a step is short and has many small operations. It needs a C++ compiler, for a GPU also Triton.
            Results are those of another rounding, and of other draws where noise is left out that nothing depends on;
            trainings that continue still end bit for bit as those that never stopped.
    """

    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    betas: tuple[float, float] = BETAS
    momentum: float = MOMENTUM
    nesterov: bool = False
    schedule: Literal["constant", "linear", "cosine", "steps"] = "constant"
    milestones: tuple[float, ...] = MILESTONES
    decay: float = DECAY
    warm_up: float = 0.0
    gradient_clip: float | None = None
    ema: float | None = None
    checkpoint_every: int = 500
    log_every: int = 50
    validate_every: int | None = None
    validate_on: Literal["rows", "pairs"] | None = None
    patience: int | None = None
    augmentation: Augmentation | None = None
    snapshots: tuple[float, ...] = ()
    compile: bool = False

    def __post_init__(self) -> None:
        check_whole(1, **self._given("steps", "batch_size", "checkpoint_every", "log_every"))
        check_whole(1, **self._given("validate_every", "patience", optional=True))
        check_numbers(**self._given("learning_rate", "weight_decay", "momentum", "decay", "warm_up"))
        check_numbers(**self._given("gradient_clip", "ema", optional=True))
        if not isinstance(self.augmentation, Augmentation | None):
            raise RecipeError(f"augmentation must be a limbeck.data.Augmentation or none, not {self.augmentation!r}")
        if self.patience is not None and self.validate_every is None:
            raise RecipeError("patience counts validations; give validate_every too, or leave patience out")
        if self.validate_on is not None and self.validate_every is None:
            raise RecipeError("validate_on says what is measured; say how often with validate_every, or leave it out")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise RecipeError(f"betas are two decays in [0, 1), not {self.betas}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise RecipeError(f"learning_rate must be positive, not {self.learning_rate}")
        if self.optimizer == "sgd" and tuple(self.betas) != BETAS:
            raise RecipeError(
                "betas are for optimizer: adam or adamw, but it is sgd, which has momentum instead; leave them at "
                f"{list(BETAS)}"
            )
        if not 0 <= self.warm_up < 1:
            raise RecipeError(f"warm_up is a fraction of the steps in [0, 1), not {self.warm_up}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise RecipeError(f"ema is a decay strictly between 0 and 1, not {self.ema}")
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise RecipeError(f"gradient_clip must be positive, not {self.gradient_clip}; leave it out for no clipping")
        if not self.weight_decay >= 0:
            raise RecipeError(f"weight_decay must not be negative, but is {self.weight_decay}")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise RecipeError(f"{name} must be one of {', '.join(map(str, known))}, not {getattr(self, name)!r}")
        if any(not 0 <= fraction <= 1 for fraction in self.snapshots):
            raise RecipeError(f"snapshots are fractions of the steps in [0, 1], not {list(self.snapshots)}")
        self._check_momentum()
        self._check_milestones()

    def _check_momentum(self) -> None:
        if not 0 <= self.momentum < 1:
            raise RecipeError(f"momentum is a fraction in [0, 1), not {self.momentum}")
        if self.nesterov and self.momentum == 0:
            raise RecipeError("nesterov looks ahead along the momentum, which is 0; set momentum, or leave it out")
        if self.optimizer != "sgd" and (self.nesterov or self.momentum != MOMENTUM):
            raise RecipeError(
                f"momentum and nesterov are for optimizer: sgd, but it is {self.optimizer}, which has betas instead; "
                f"leave them at {MOMENTUM} and false"
            )

    def _given(self, *names: str, optional: bool = False) -> dict[str, Any]:
        """Settings by name; those that may be left out only where they are not."""
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if not (optional and value is None)}

    def _check_milestones(self) -> None:
        marks = (0.0, *self.milestones, 1.0)
        if not self.milestones or any(after <= before for before, after in itertools.pairwise(marks)):
            raise RecipeError(
                f"milestones are increasing fractions of the steps between 0 and 1, not {list(self.milestones)}"
            )
        if not 0 < self.decay <= 1:
            raise RecipeError(f"decay is a factor in (0, 1], not {self.decay}")
        if self.schedule != "steps" and (tuple(self.milestones) != MILESTONES or self.decay != DECAY):
            raise RecipeError(
                f"milestones and decay are for schedule: steps, but it is {self.schedule}; give schedule=steps, or "
                f"leave them at {list(MILESTONES)} and {DECAY}"
            )

    def rate(self, step: int) -> float:
        """Factor of the learning rate at a step, in [0, 1].

        Example:
            >>> cosine = Training(steps=100, schedule="cosine", warm_up=0.1)
            >>> [round(cosine.rate(step), 2) for step in (0, 10, 55, 99)]
            [0.1, 1.0, 0.5, 0.0]
            >>> stairs = Training(steps=200, schedule="steps")
            >>> [round(stairs.rate(step), 3) for step in (59, 60, 120, 160)]
            [1.0, 0.2, 0.04, 0.008]
        """
        rising = round(self.warm_up * self.steps)
        if step < rising:
            return (step + 1) / rising
        done = (step - rising) / max(1, self.steps - rising)
        if self.schedule == "linear":
            return max(0.0, 1.0 - done)
        if self.schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
        if self.schedule == "steps":
            passed = sum(step >= max(1, round(milestone * self.steps)) for milestone in self.milestones)
            return self.decay**passed
        return 1.0

    def shortened(self, steps: int, batch_size: int) -> Training:
        """The same settings for a dry run of at most ``steps`` steps of at most ``batch_size`` rows."""
        every = None if self.validate_every is None else min(self.validate_every, 2)
        return dataclasses.replace(
            self, steps=min(self.steps, steps), batch_size=min(self.batch_size, batch_size), checkpoint_every=2,
            log_every=1, validate_every=every,
        )  # fmt: skip

    def essential(self) -> dict[str, object]:
        """What the weights depend on: how often one looks at them is not part of it, unless that chooses among them."""
        unused = {"checkpoint_every", "log_every", "snapshots"}
        # What came later is told only where it is used, so that the results of earlier versions are still found.
        later = ("validate_every", "validate_on", "patience", "augmentation")
        unused |= {name for name in later if getattr(self, name) is None}
        unused |= {"betas"} if tuple(self.betas) == BETAS else set()
        unused |= {"momentum"} if self.momentum == MOMENTUM else set()
        unused |= set() if self.nesterov else {"nesterov"}
        unused |= set() if self.compile else {"compile"}  # rounding differs, and may draws
        unused |= set() if self.schedule == "steps" else {"milestones", "decay"}
        found = {name: value for name, value in vars(self).items() if name not in unused}
        return found | ({"augmentation": vars(self.augmentation)} if self.augmentation else {})


@dataclass(frozen=True)
class TrainerOptions:
    """Where and in which precision to train: passed on to ``lightning.Trainer``.

    Attributes:
        accelerator: ``"auto"``, ``"cpu"``, ``"gpu"``, ...
        devices: how many, or ``"auto"``.
        strategy: ``"auto"`` or ``"ddp"``.
        precision: ``"32-true"``, ``"bf16-mixed"``, ``"64-true"``, ...
        num_nodes: number of machines.
    """

    accelerator: str = "auto"
    devices: int | str = 1
    strategy: str = "auto"
    precision: str = "32-true"
    num_nodes: int = 1
