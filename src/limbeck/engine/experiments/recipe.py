"""A recipe: one experiment, completely described. Read from YAML by the command line, or built in Python."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.methods import scratch
from limbeck.core.objective import Objective
from limbeck.data import DataSource, Split
from limbeck.engine.caching.teacher_cache import TeacherCache, check_repeated
from limbeck.engine.evaluations.evaluation import Evaluation
from limbeck.engine.experiments.axes import Axis, check_axes
from limbeck.engine.experiments.choosing import candidates, check_choices, few_of
from limbeck.engine.experiments.recipe_parts import About, Baseline, Start, check_folder_name
from limbeck.engine.experiments.transfer import check_transfer
from limbeck.engine.pairs.pair_options import Pairs
from limbeck.engine.settings.checks import check_snapshots
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.training.stopping import check_stopping
from limbeck.errors import RecipeError

__all__ = ["About", "Axis", "Baseline", "Recipe", "Start", "rows_of"]

DRY_STEPS = 4
DRY_BATCH = 16
DRY_ROWS = 2  # of each class


@dataclass(frozen=True)
class Recipe:
    """One experiment: train the teacher, then students by the method and every baseline for each seed; evaluate all.

    Attributes:
        title: one line.
        data: where the rows come from; ``None`` if nothing is trained on data.
        teacher_data: where the teacher's rows come from, if it learns another task than the students do; the students
            learn from ``data``, and the teacher is measured on its own test rows. By default ``data``.
        per_class: number of training rows of each class that students learn from; the teacher learns from all. Each
            seed of the students has its own choice of rows, the same for all methods; for one seed, the rows of a
            smaller number are among those of a larger one. ``None`` for all rows.
        description: what is done, on which data, for a reader of the report.
        teacher: the teacher's architecture; also its weights if ``teacher_from`` names a directory.
        student: the student's architecture, a fresh copy for each method and seed.
        objective: the method.
        evaluation: how models are measured.
        method: the method's name in tables.
        baselines: name to baseline.
        target: which part of the data is modelled: ``"images"``, ``"labels"``, ``"values"``, ...
        condition: which part of the data the models are conditioned on, or ``"none"``.
        tasks: the part of the data whose one-hot rows give the task of each row, e.g. ``"domains"``. The teacher learns
            the first task. Each method then learns the others in turn, starting from its own last model, which is also
            its frozen teacher for all earlier tasks.
        pairs: pairs of noise and result that the teacher makes once and all methods that compare with it learn from,
            instead of running the teacher in each step: for teachers whose runs are long, such as the samplers of
            diffusion models.
        teacher_cache: outputs of the teacher on all rows that students see, computed once; for classifiers whose inputs
            repeat.
        choices: candidates for weights of the method: the teacher's pattern of a match, as in ``"h[*]"``, to weights,
            and ``learning_rate`` to learning rates. Each point of their grid is trained once on a part of the rows that
            students learn from, and measured on the rest; with the best, each seed then learns from all rows.
        choice_share: share of the rows that candidates are measured on ([V] Sec. 3).
        start: initial weights of the students; with tasks always those of the model before.
        teacher_from: directory of a trained teacher, or anything else that its class can read; then no teacher is
            trained.
        source_from: directory of a trained model that students with ``start: source`` start from; by default such a
            model is trained.
        teacher_training: the teacher's optimisation; ``None`` if it is complete as constructed, such as a formula.
        training: every student's optimisation.
        trainer: devices, strategy, precision.
        seed: determines all randomness.
        seeds: number of students per method; they share the teacher.
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
        for name in self.methods:
            check_folder_name(name)
        if self.data is None:
            self._check_without_data()
        elif self.tasks is not None and self.condition not in ("none", self.tasks):
            raise RecipeError(
                f"models that learn tasks can have the condition {self.tasks!r} or 'none', not {self.condition!r}"
            )
        if self.pairs is not None and self.tasks is not None:
            raise RecipeError(
                "pairs belong to one teacher, but with tasks each method has its own; leave out one of them"
            )
        check_transfer(self)
        check_choices(self)
        self._check_cache()
        self._check_stopping()
        check_snapshots(self.training.snapshots, (baseline.objective for baseline in self.methods.values()))
        if self.training.snapshots and self.tasks is not None:
            raise RecipeError("training.snapshots has no effect: with tasks none are drawn; leave it out")
        starts = [self.start == "random", *(baseline.start is None for baseline in self.baselines.values())]
        if self.tasks is not None and not all(starts):
            raise RecipeError("start has no effect: with tasks each model starts from the one before; leave it out")
        check_axes(self.sweep)

    def _check_without_data(self) -> None:
        if self.tasks is not None:
            raise RecipeError(f"tasks are the part {self.tasks!r} of the data, but the recipe names no data")
        on_data = [method for method, baseline in self.methods.items() if baseline.objective.needs_data]
        if self.condition != "none":
            raise RecipeError(f"the condition is the part {self.condition!r} of the data, but the recipe names no data")
        if on_data or self.fits_teacher:
            who = f"{on_data[0]!r}" if on_data else "the teacher"
            raise RecipeError(
                f"{who} trains on data, but the recipe names none; give data, or teacher_from for a teacher"
            )

    def _check_cache(self) -> None:
        """Check that the teacher gets the same rows repeatedly, which is what its stored outputs are for."""
        if self.teacher_cache is None:
            return
        if self.pairs is not None or self.tasks is not None:
            raise RecipeError("teacher_cache is for one teacher that gets rows of data; leave out pairs and tasks")
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

    @property
    def needed_teacher_training(self) -> Training:
        """The teacher's optimisation, where something is to be trained with it.

        Raises:
            RecipeError: the recipe has none.
        """
        if self.teacher_training is None:
            raise RecipeError("the recipe has no teacher_training, but a model is to be trained with it; give one")
        return self.teacher_training

    def student_of(self, method: str) -> DGM:
        """The method's architecture."""
        return self.methods[method].student or self.student

    def start_of(self, method: str) -> Start:
        """Where the initial weights of the method's students come from."""
        return "teacher" if self.tasks is not None else self.methods[method].start or self.start

    def pairs_of(self, method: str) -> Pairs | None:
        """The recorded pairs that the method learns from; ``None`` if a teacher runs in each step or is not needed."""
        baseline = self.methods[method]
        return self.pairs if baseline.pairs and baseline.objective.needs_teacher else None

    def training_of(self, method: str) -> Training:
        """The method's optimisation: the common budget with its own learning rate.

        Raises:
            RecipeError: names the method whose learning rate is none.
        """
        rate = self.methods[method].learning_rate
        try:
            return self.training if rate is None else dataclasses.replace(self.training, learning_rate=rate)
        except RecipeError as error:
            raise RecipeError(f"baselines.{method}: {error}") from None

    def dry(self) -> Recipe:
        """The same experiment with few steps of few rows in each stage, one seed, few samples and candidates."""
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
            turns: number of tasks that each student learns.
            sources: number of models that are trained for students to start from.
        """
        whole = self.teacher_training.steps if self.teacher_training else 0
        teacher = whole * (sources + self.fits_teacher)
        recorded = any(self.pairs_of(method) for method in self.methods)
        pairs = self.pairs.batches if self.pairs is not None and recorded else 0
        tried = sum(len(candidates(baseline.choices)) for baseline in self.methods.values())
        students = self.seeds * len(self.methods) * turns + tried
        return teacher + pairs + self.evaluation.steps + students * self.training.steps


def rows_of(split: Split, target: str, condition: str) -> Batch:
    """All rows of a split as a model sees them: the part that it models, and the part that it is conditioned on.

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
