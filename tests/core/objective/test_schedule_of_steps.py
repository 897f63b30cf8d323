"""Progress must be given where anything depends on it, and labels beside the inputs that they belong to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from limbeck.core import methods
from limbeck.core.coupling import DataTargets, SharedNoise, WithData, WithPosterior
from limbeck.core.divergence import nll
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Combined, Match, Objective
from limbeck.core.schedule import Ramp
from limbeck.errors import MatchError
from tests.small_models import LinearGaussian
from tests.zoo import BY_NAME


def linear() -> LinearGaussian:
    return LinearGaussian([["z", "latent", 3, []], ["y", "target", 2, ["z"]]])


RELAXED = SharedNoise(discrete_gradient="relaxed")
SCHEDULED = {
    "weight": lambda: Objective([Match("y", weight=Ramp(0.0, 1.0))]),
    "temperature": lambda: Objective([Match("y")], RELAXED),
    "temperature inside": lambda: Objective([Match("y")], WithPosterior(RELAXED)),
    "weight of a part": lambda: Combined({"a": Objective([Match("y")])}, {"a": Ramp(1.0, 0.5)}),
    "part": lambda: Combined({"a": Objective([Match("y", weight=Ramp(0.0, 1.0))])}),
    "guided": methods.guided,
    "progressive": methods.progressive,
}
CONSTANT = {
    "plain": lambda: Objective([Match("y")]),
    "one temperature": lambda: Objective([Match("y")], SharedNoise(discrete_gradient="relaxed", final_temperature=1.0)),
    "straight through": lambda: methods.surrogate(discrete_gradient="straight-through"),
    "sum": lambda: Combined({"a": Objective([Match("y")])}, {"a": 0.5}),
}


@pytest.mark.parametrize("make", SCHEDULED.values(), ids=SCHEDULED)
def test_what_changes_over_a_training_asks_how_far_it_is(make) -> None:
    assert make().scheduled
    with pytest.raises(MatchError, match="progress=step / steps"):
        make()(linear(), linear(), batch_size=4)


@pytest.mark.parametrize("make", CONSTANT.values(), ids=CONSTANT)
def test_what_does_not_change_needs_none(make) -> None:
    objective = make()
    assert not objective.scheduled
    assert objective(linear(), linear(), batch_size=4).total.isfinite()


def test_progress_reaches_the_weight() -> None:
    objective = SCHEDULED["weight"]()
    assert objective(linear(), linear(), batch_size=4, progress=0.0).total.item() == 0.0


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_before_anything_counts_changes_nothing(compiled: bool) -> None:
    objective, teacher, student = SCHEDULED["weight"](), linear(), linear()

    def total() -> Tensor:
        return objective(teacher, student, batch_size=4, progress=0.0).total

    (torch.compile(total, fullgraph=True, backend="aot_eager") if compiled else total)().backward()
    assert all(p.grad is None or not p.grad.any() for p in student.parameters())
    parts = Combined({"one": objective, "other": SCHEDULED["weight"]()})
    parts(teacher, student, batch_size=4, progress=0.0).total.backward()
    # Weights that stay 0 are a mistake, which torch tells.
    assert not Objective([Match("y", weight=0.0)])(teacher, student, batch_size=4).total.requires_grad


# --------------------------------------------------------------------------------------------------- labels and inputs


class Classes(DGM):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def generate(self, sites, x=None):
        sites.target("y", Categorical(logits=self.layer(x)))


def batch() -> Batch:
    return Batch(torch.tensor([0, 1, 2, 0]), torch.randn(4, 5))


@pytest.mark.parametrize(
    "objective",
    [
        Objective([Match("y|data", "y", nll)], WithData()),
        methods.transfer(["y:kd@0"]),
        Objective([Match("y")], DataTargets("y")),
        Combined({"a": methods.transfer(["y:kd"])}),
    ],
    ids=["labels", "transfer", "data targets", "sum"],
)
def test_labels_are_not_put_beside_inputs_of_other_rows(objective: Objective) -> None:
    rows, teacher, student = batch(), Classes(), Classes()
    with pytest.raises(MatchError, match="other inputs x beside the batch"):
        objective(teacher, student, x=torch.randn(4, 5), batch=rows)
    with pytest.raises(MatchError, match="other inputs x beside the batch"):
        objective(teacher, student, x=torch.randn(8, 5), batch=rows)
    expected = objective(teacher, student, batch=rows).total
    for own in (rows.x, rows.x.clone()):
        torch.testing.assert_close(objective(teacher, student, x=own, batch=rows).total, expected)


def test_flows_that_observe_the_data_refuse_them_too() -> None:
    objective = methods.lkd()
    rows = Batch(torch.randn(4, 2), torch.randn(4, 5))
    with pytest.raises(MatchError, match="other inputs x beside the batch"):
        objective(Classes(), Classes(), x=torch.randn(4, 5), batch=rows)


def test_the_students_own_loss_may_be_on_other_rows() -> None:
    """As in continual learning: new rows, and the old domains in which the teacher generates."""
    teacher, student = BY_NAME["classifier"].pair()
    objective = Objective([Match("y")])
    rows = Batch(torch.zeros(4, dtype=torch.long), torch.randn(4, 5))
    assert objective(teacher, student, x=torch.randn(6, 5), batch=rows).total.isfinite()
