"""Objectives with other weights."""

from __future__ import annotations

import pytest
import torch

from limbeck.core.coupling import WithData
from limbeck.core.loss import Batch
from limbeck.core.methods import transfer
from limbeck.core.objective import Match, Objective
from limbeck.core.objective.reweighting import check_patterns, with_weights
from limbeck.engine.stages.objective_description import describe_objective
from limbeck.errors import MatchError
from limbeck.models import MLPClassifier
from tests.tiny import built


def models() -> list[MLPClassifier]:
    found = [built(MLPClassifier, seed, inputs=6, classes=3, widths=[5, 4]) for seed in (0, 1)]
    return [model for model in found if isinstance(model, MLPClassifier)]


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.tensor([0, 1, 2, 1]), torch.rand(4, 6, generator=generator))


def test_terms_scale_and_nothing_else_changes() -> None:
    teacher, student = models()
    objective = transfer(["h[*]:vid@10", "y:kd@2"])
    made = with_weights(objective, {"h[*]": 30.0, "y|data": 0.5})
    with torch.random.fork_rng():
        for one in (objective, made):
            torch.manual_seed(0)
            one.prepare(teacher, student, batch().x)
    before, after = (one(teacher, student, batch=batch()).terms for one in (objective, made))
    factors = {name: after[name].item() / before[name].item() for name in before}
    for name, factor in factors.items():
        assert factor == pytest.approx(3.0 if "h[" in name else 0.5 if "data" in name else 1.0, rel=1e-4), name
    assert sorted({round(factor, 3) for factor in factors.values()}) == [0.5, 1.0, 3.0]


def test_the_same_as_if_made_with_them() -> None:
    made = with_weights(transfer(["h[*]:vid@10", "y:kd@2"]), {"h[*]": 100.0, "y|data": 0.1})
    assert describe_objective(made) == describe_objective(transfer(["h[*]:vid@100", "y:kd@2"], task_weight=0.1))
    assert isinstance(made.coupling, WithData)


def test_the_first_stays_as_it_was() -> None:
    objective = transfer(["h[*]:vid@10"])
    teacher, student = models()
    before = describe_objective(objective)
    made = with_weights(objective, {"h[*]": 1.0})
    made.prepare(teacher, student, batch().x)
    assert describe_objective(objective) == before
    assert not objective.learned
    assert all(
        one is not other for one, other in zip(objective.divergences, made.divergences, strict=True)
    )  # templates of their own


def test_a_schedule_is_replaced() -> None:
    objective = Objective([Match("y", weight=lambda progress: 5.0 * progress)])
    assert with_weights(objective, {"y": 2.0}).matches[0].weight == 2.0


def test_a_match_of_names_keeps_its_weight() -> None:
    made = with_weights(Objective([Match({"z": "w"}, weight=3.0), Match("y")]), {"y": 2.0})
    assert [match.weight for match in made.matches] == [3.0, 2.0]


def test_unknown_patterns() -> None:
    objective = transfer(["h[*]:vid"])
    with pytest.raises(MatchError, match=r"'h\[0\]'; did you mean 'h\[\*\]'"):
        check_patterns(objective, ["y|data", "h[0]"])
    with pytest.raises(MatchError, match="there are: 'y'"):
        with_weights(Objective([Match("y")]), {"something": 1.0})
