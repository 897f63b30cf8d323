"""A recipe: one experiment, completely described. Read from YAML by the command line, or built in Python."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.methods import scratch
from limbeck.core.objective import Objective
from limbeck.data import DataSource, Split
from limbeck.engine.caching.cache_options import TeacherCache, check_repeated
from limbeck.engine.evaluations.evaluation import Evaluation
from limbeck.engine.experiments.axes import Axis, check_axes
from limbeck.engine.experiments.baseline import About, Baseline, Start
from limbeck.engine.experiments.choosing import candidates, check_choices, few_of
from limbeck.engine.experiments.transfer import check_transfer
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.training.stopping import check_stopping
from limbeck.errors import RecipeError

__all__ = ["About", "Axis", "Baseline", "Recipe", "Start", "rows_of"]

DRY_STEPS = 4
DRY_BATCH = 16
DRY_ROWS = 2  # of each class


@dataclass(frozen=True)
class Recipe:
    """One experiment: fit the teacher, then the student by the method and by every baseline, each seed; evaluate all.

    Attributes:
        title: one line.
        data: where the rows come from; ``None`` if nothing is trained on data.
        teacher_data: where the teacher's rows come from, if it learned another task than the students do; the students
            learn from ``data``, and the teacher is measured on its own test rows. By default ``data``.
        per_class: students learn from so many training rows of each class, the teacher from all. Each student seed has
            its own choice of rows, the same for all methods; with one seed the rows of a smaller number are among those
            of a larger one. ``None`` for all rows.
        description: what is done, on which data, for a reader of the report.
        teacher: the teacher's architecture; also its weights if ``teacher_from`` names a directory.
        student: the student's architecture, a fresh copy for each method and seed.
        objective: the method.
        evaluation: how models are measured.
        method: the method's name in tables.
        baselines: name to baseline.
        target: which part of the data is modelled: ``"images"``, ``"labels"``, ``"values"``, ...
        condition: which part of the data the models are conditioned on, or ``"none"``.
        tasks: the part of the data whose one-hot rows tell to which task each row belongs, e.g. ``"domains"``. The
            teacher learns the first task; each method then learns the others in turn, starting from its own last
            model, which is also its frozen teacher for all that came before.
        pairs: what the teacher makes once and all methods that compare with it learn from, rather than that it runs
            anew in each step: for teachers whose runs are long, such as the samplers of diffusion models.
        teacher_cache: outputs of the teacher on all rows that students see, computed once; for classifiers whose inputs
            repeat.
        choices: weights of the method to choose among: the teacher's pattern of a match, as in ``"h[*]"``, to its
            candidates, and ``learning_rate`` to others. Each point of their grid is trained once on a part of the rows
            that students learn from and measured on the rest; with the best, each seed then learns from all rows.
        choice_share: share of these rows that candidates are measured on ([V] Sec. 3).
        start: initial weights of the students; with tasks always those of the model before.
        teacher_from: directory of a trained teacher, or what else its class can read; then no teacher is trained.
        source_from: directory of a trained model that students with ``start: source`` start from, rather than of one
            that is trained for them.
        teacher_training: the teacher's optimisation; ``None`` if it is complete as constructed, such as a formula.
        training: every student's optimisation.
        trainer: devices, strategy, precision.
        seed: fixes everything.
        seeds: number of students a method; they share the teacher.
        sweep: axes over which the whole experiment is repeated, each point of their grid a run of its own.
        about: what ``limbeck recipes`` says.
    """

    title: str
    teacher: DGM
    student: DGM
    objective: Objective
    evaluation: Evaluation
    data: DataSource | None = None
    teacher_data: DataSource | None = None
    per_class: int | None = None
    description: str = ""
    method: str = "surrogate"
    baselines: dict[str, Baseline] = field(default_factory=dict)
    target: str = "images"
    condition: str = "none"
    tasks: str | None = None
    pairs: Pairs | None = None
    teacher_cache: TeacherCache | None = None
    choices: dict[str, list[float]] = field(default_factory=dict)
    choice_share: float = 0.2
    start: Start = "random"
    teacher_from: str | None = None
    source_from: str | None = None
    teacher_training: Training | None = field(default_factory=Training)
    training: Training = field(default_factory=Training)
    trainer: TrainerOptions = field(default_factory=TrainerOptions)
    seed: int = 0
    seeds: int = 1
    sweep: list[Axis] = field(default_factory=list)
    about: About = field(default_factory=About)

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise RecipeError(f"seeds must be at least 1, not {self.seeds}")
        taken = {"teacher", self.method} & set(self.baselines)
        if taken or self.method == "teacher":
            raise RecipeError(f"the name {(taken or {'teacher'}).pop()!r} is taken; give the baseline another name")
        if self.data is None:
            self._check_without_data()
        elif self.tasks is not None and self.condition not in ("none", self.tasks):
            raise RecipeError(f"models that learn tasks are told {self.tasks!r} or nothing, not {self.condition!r}")
        if self.pairs is not None and self.tasks is not None:
            raise RecipeError("pairs are of one teacher, but with tasks each method has its own; leave out one of them")
        check_transfer(self)
        check_choices(self)
        self._check_cache()
        self._check_stopping()
        check_axes(self.sweep)

    def _check_without_data(self) -> None:
        if self.tasks is not None:
            raise RecipeError(f"tasks are told by {self.tasks!r} of the data, but the recipe names no data")
        hungry = [method for method, baseline in self.methods.items() if baseline.objective.needs_data]
        if self.condition != "none":
            raise RecipeError(f"models are given {self.condition!r} of the data, but the recipe names no data")
        if hungry or self.fits_teacher:
            who = f"{hungry[0]!r}" if hungry else "the teacher"
            raise RecipeError(
                f"{who} trains on data, but the recipe names none; give data, or teacher_from for a teacher"
            )

    def _check_cache(self) -> None:
        """The teacher must be asked for the same rows again and again, if its outputs are to be kept."""
        if self.teacher_cache is None:
            return
        if self.pairs is not None or self.tasks is not None:
            raise RecipeError("teacher_cache is for one teacher that is given rows of data: not with pairs or tasks")
        check_repeated(self.condition != "none", self.training.augmentation)

    def _check_stopping(self) -> None:
        validation = self.data is not None
        if self.teacher_training is not None and self.fits_teacher:
            check_stopping(self.teacher_training, self.teacher, scratch(), "the teacher", validation=validation)
        for method, baseline in self.methods.items():
            training, student = self.training_of(method), self.student_of(method)
            pairs = self.pairs_of(method)
            held_out = None if pairs is None else pairs.held_out
            who = f"{method!r}"
            check_stopping(training, student, baseline.objective, who, validation=validation, held_out=held_out)

    @property
    def methods(self) -> dict[str, Baseline]:
        """The method and every baseline, in the order of the tables."""
        return {self.method: Baseline(self.objective, choices=self.choices), **self.baselines}

    @property
    def fits_teacher(self) -> bool:
        """Whether the run trains its teacher."""
        return self.teacher_from is None and self.teacher_training is not None

    def student_of(self, method: str) -> DGM:
        """The method's architecture."""
        return self.methods[method].student or self.student

    def start_of(self, method: str) -> Start:
        """Where the method's weights come from."""
        return "teacher" if self.tasks is not None else self.methods[method].start or self.start

    def pairs_of(self, method: str) -> Pairs | None:
        """The recorded pairs that the method learns from; ``None`` if the teacher runs in each step, or not at all."""
        baseline = self.methods[method]
        return self.pairs if baseline.pairs and baseline.objective.needs_teacher else None

    def training_of(self, method: str) -> Training:
        """The method's optimisation: the common budget with its own learning rate."""
        rate = self.methods[method].learning_rate
        return self.training if rate is None else dataclasses.replace(self.training, learning_rate=rate)

    def dry(self) -> Recipe:
        """The same experiment with a few steps of a few rows in each stage, one seed, few samples and candidates."""
        few = {name: dataclasses.replace(base, choices=few_of(base.choices)) for name, base in self.baselines.items()}
        return dataclasses.replace(
            self,
            teacher_training=self.teacher_training and self.teacher_training.shortened(DRY_STEPS, DRY_BATCH),
            training=self.training.shortened(DRY_STEPS, DRY_BATCH),
            per_class=self.per_class and min(self.per_class, DRY_ROWS),
            pairs=self.pairs and self.pairs.shortened(DRY_BATCH),
            choices=few_of(self.choices),
            baselines=few,
            evaluation=self.evaluation.dry(),
            seeds=1,
        )

    def total_steps(self, turns: int, sources: int = 0) -> int:
        """Optimiser steps of all stages together, and runs of the teacher that makes pairs.

        Args:
            turns: how many tasks each student learns.
            sources: how many models are trained for students to start from.
        """
        whole = self.teacher_training.steps if self.teacher_training else 0
        teacher = whole * (sources + self.fits_teacher)
        recorded = any(self.pairs_of(method) for method in self.methods)
        pairs = self.pairs.batches if self.pairs is not None and recorded else 0
        tried = sum(len(candidates(baseline.choices)) for baseline in self.methods.values())
        students = self.seeds * len(self.methods) * turns + tried
        return teacher + pairs + self.evaluation.steps + students * self.training.steps


def rows_of(split: Split, target: str, condition: str) -> Batch:
    """All rows of a split as a model sees them: what it models, given what.

    Raises:
        RecipeError: the split has no such part, or target and condition are the same.
    """
    parts = split.parts
    for part in (target, condition):
        if part not in parts and (part != "none" or part == target):
            raise RecipeError(f"the data have no {part!r}; target and condition can be {', '.join(parts)}")
    if target == condition:
        raise RecipeError(f"a model of {target!r} given {condition!r} makes no sense; change target or condition")
    return Batch(parts[target], parts.get(condition))
