"""Choosing the weights of a method among the candidates that a recipe names, by their scores on held-out rows."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from limbeck.core.loss import Batch
from limbeck.core.objective.reweighting import check_patterns, with_weights
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.ranks import is_main_process
from limbeck.engine.stages.script_code import own_code
from limbeck.engine.stages.stage import Stage
from limbeck.errors import MatchError, NonFiniteLossError, RecipeError
from limbeck.names import public_name

if TYPE_CHECKING:
    from limbeck.core.graph import DGM
    from limbeck.engine.experiments.recipe import Recipe
    from limbeck.engine.experiments.training_stage import TrainingStage

__all__ = ["LEARNING_RATE", "Candidate", "Choice", "Chosen", "candidates", "check_choices", "choice_notes", "choose",
           "few_of", "with_candidate"]  # fmt: skip

LEARNING_RATE = "learning_rate"
"""The name among the choices that is not a pattern of a match."""


@dataclass(frozen=True)
class Candidate:
    """One point of the grid.

    Attributes:
        values: pattern of a match, or :data:`LEARNING_RATE`, to its value.
    """

    values: Mapping[str, float]

    @override
    def __str__(self) -> str:
        return ", ".join(f"{name} = {value:g}" for name, value in self.values.items())

    @property
    def slug(self) -> str:
        """Name of its directory."""
        plain = (f"{re.sub(r'[^0-9A-Za-z_]+', '-', name).strip('-')}={value:g}" for name, value in self.values.items())
        return ",".join(plain)


def candidates(choices: Mapping[str, Sequence[float]]) -> list[Candidate]:
    """All points of a grid, the last name varying fastest; none if there is nothing to choose.

    Example:
        >>> [str(candidate) for candidate in candidates({"y|data": [0.1, 1.0], "h[*]": [10.0]})]
        ['y|data = 0.1, h[*] = 10', 'y|data = 1, h[*] = 10']
    """
    if not choices:
        return []
    return [Candidate(dict(zip(choices, point, strict=True))) for point in itertools.product(*choices.values())]


def few_of(choices: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """A grid of two points at most, for a dry run.

    Example:
        >>> few_of({"y|data": [0.1, 1.0], "h[*]": [10.0, 100.0, 1000.0]})
        {'y|data': [0.1], 'h[*]': [10.0, 100.0]}
    """
    return {name: [*values[: 1 + (name == [*choices][-1])]] for name, values in choices.items()}


@dataclass(frozen=True)
class Choice:
    """What was chosen for a method, and from what.

    Attributes:
        method: its name.
        scores: candidate and its score on the held-out rows, in the order of the grid; infinite where the training of
            the candidate failed.
        label: name of the score.
        rows: number of held-out rows.
        share: share of the held-out rows among those that students learn from.
    """

    method: str
    scores: tuple[tuple[Candidate, float], ...]
    label: str
    rows: int
    share: float

    @property
    def best(self) -> Candidate:
        """The first with the smallest score."""
        return min(self.scores, key=lambda pair: pair[1])[0]

    @property
    def settings(self) -> dict[str, float | int | str]:
        """For the table of all models."""
        names = ((name, value) for name, value in self.best.values.items() if name != LEARNING_RATE)
        return {f"weight of {name}": value for name, value in names}

    @property
    def note(self) -> str:
        """For the notes of a report."""
        scores = "; ".join(f"{candidate}: {score:.4g}" for candidate, score in self.scores)
        return f"{self.method}: {self.best}, of {len(self.scores)} candidates ({scores})."


@dataclass(frozen=True)
class Chosen:
    """A recipe, with the choices that were made so far.

    Attributes:
        recipe: the experiment; methods whose choices are made have the best candidate's weights.
        choices: method to its choice.
    """

    recipe: Recipe
    choices: Mapping[str, Choice] = field(default_factory=dict)

    def plus(self, choice: Choice) -> Chosen:
        """The recipe with one more choice made."""
        recipe = with_candidate(self.recipe, choice.method, choice.best)
        return Chosen(recipe, {**self.choices, choice.method: choice})


def choice_notes(recipe: Recipe, choices: Mapping[str, Choice]) -> list[str]:
    """What a reader of a report should know of choices.

    Args:
        recipe: the experiment before choices were made.
        choices: method to its choice.
    """
    if not choices:
        return []
    first, *_ = choices.values()
    others = [method for method in recipe.methods if method not in choices]
    rest = f" {' and '.join(others)} had nothing to choose." if others else ""
    return [
        f"Weights were chosen by the {first.label}, on {first.share:.0%} of the rows that students learn from "
        f"({first.rows:,} rows), which the candidates of that choice did not see; one seed per candidate. With the "
        f"chosen weights, every seed learned from all rows.{rest}",
        *(choice.note for choice in choices.values()),
    ]


def check_choices(recipe: Recipe) -> None:
    """Check the choices of a recipe, before anything is trained.

    Raises:
        RecipeError: names the method and what does not fit.
    """
    if not 0 < recipe.choice_share < 1:
        raise RecipeError(f"choice_share is a share of the training rows between 0 and 1, not {recipe.choice_share}")
    for method, baseline in recipe.methods.items():
        if not baseline.choices:
            continue
        if recipe.data is None or recipe.tasks is not None:
            why = "the recipe names no data" if recipe.data is None else "with tasks they change from task to task"
            raise RecipeError(f"{method!r} has choices, which are made on held-out training rows, but {why}")
        for name, values in baseline.choices.items():
            if not values or not all(math.isfinite(value) and value >= 0 for value in values):
                raise RecipeError(f"{method!r}: choices of {name!r} must be numbers from 0 on, not {list(values)}")
            if len(set(values)) < len(values) or (name == LEARNING_RATE and min(values) <= 0):
                raise RecipeError(
                    f"{method!r}: choices of {name!r} must differ, and learning rates be positive: {values}"
                )
        try:
            check_patterns(baseline.objective, [name for name in baseline.choices if name != LEARNING_RATE])
        except MatchError as error:
            raise RecipeError(f"{method!r}, choices: {error}") from None


def with_candidate(recipe: Recipe, method: str, candidate: Candidate) -> Recipe:
    """The recipe in which a method has a candidate's weights; the other methods stay as they are."""
    weights = {name: value for name, value in candidate.values.items() if name != LEARNING_RATE}
    objective, rate = with_weights(recipe.methods[method].objective, weights), candidate.values.get(LEARNING_RATE)
    if method != recipe.method:
        baseline = recipe.baselines[method]
        rate = baseline.learning_rate if rate is None else rate
        made = dataclasses.replace(baseline, objective=objective, learning_rate=rate, choices={})
        return dataclasses.replace(recipe, baselines={**recipe.baselines, method: made})
    if rate is None:
        return dataclasses.replace(recipe, objective=objective, choices={})
    # The recipe's learning rate also applies to baselines without their own, which must keep it.
    others = {
        name: dataclasses.replace(baseline, learning_rate=recipe.training_of(name).learning_rate)
        for name, baseline in recipe.baselines.items()
    }
    training = dataclasses.replace(recipe.training, learning_rate=rate)
    return dataclasses.replace(recipe, objective=objective, choices={}, training=training, baselines=others)


def choose(
    recipe: Recipe,
    method: str,
    stage_of: Callable[[Recipe, Candidate], TrainingStage],
    finished: Callable[[TrainingStage, Path], DGM],
    held_out: Batch,
    directory: Path,
    progress: Progress,
) -> Choice:
    """Train every candidate of a method and measure it on held-out rows; finished candidates are not repeated.

    Args:
        recipe: the experiment.
        method: one of its methods, with choices.
        stage_of: builds the training of a candidate from the recipe with the candidate's weights.
        finished: runs a training in a directory, or reads its model back.
        held_out: rows that no candidate has learned.
        directory: the run directory.
        progress: receives steps and scores.

    Raises:
        RecipeError: no candidate could be trained.
    """
    evaluation = recipe.evaluation
    code = own_code(evaluation)  # this library's evaluations score by the models' own loss, or by their accuracy
    own = {} if code is None else {"code": code}
    scores: list[tuple[Candidate, float]] = []
    for candidate in candidates(recipe.methods[method].choices):
        stage = stage_of(with_candidate(recipe, method, candidate), candidate)
        folder = directory / "choices" / method / candidate.slug
        key = fingerprint(training=stage.key, kind=public_name(type(evaluation)), settings=vars(evaluation), **own)
        record = Stage(folder, "score", key)
        known = record.result
        if known is not None:
            progress.skip(stage.label, stage.training.steps)
            scores.append((candidate, float(known["score"])))
            continue
        try:
            score = evaluation.score(finished(stage, folder), held_out)
        except NonFiniteLossError as error:
            progress.message(f"{stage.label}: {error}")
            score = math.inf
        score = score if math.isfinite(score) else math.inf
        progress.message(f"{stage.label}: {evaluation.score_label} {score:.4g} on {len(held_out)} held-out rows")
        if is_main_process():
            record.finish({"score": score})
        scores.append((candidate, score))
    if all(math.isinf(score) for _, score in scores):
        raise RecipeError(f"{method!r}: none of the {len(scores)} candidates could be trained; lower the learning rate")
    return Choice(method, tuple(scores), evaluation.score_label, len(held_out), recipe.choice_share)
