"""A student takes its teacher's constants and order, once, or is refused."""

from __future__ import annotations

import copy

import pytest
import torch

from limbeck.core.loss import Batch
from limbeck.errors import MatchError
from limbeck.models import HelmholtzMachine, TableGlow
from tests.flows import ONE


@pytest.mark.parametrize(
    ("teacher", "student"),
    [("maf", "table glow"), ("table glow", "maf"), ("bent", "table glow"), ("additive", "bent")],
)
def test_a_flow_that_mixes_and_one_that_does_not_are_told_apart(teacher: str, student: str) -> None:
    with pytest.raises(MatchError, match="align=False"):
        ONE[student].flow().align_with(ONE[teacher].flow())


def test_flows_that_keep_their_columns_can_follow_each_other() -> None:
    student = ONE["maf"].flow()
    student.align_with(ONE["bent"].flow())
    assert student.aligned


def test_only_a_flow_of_the_same_latents_can_be_followed() -> None:
    with pytest.raises(MatchError, match=r"latents have shapes \(\(6,\),\)"):
        TableGlow(5).align_with(TableGlow(6))
    other = HelmholtzMachine(hidden=2)
    with pytest.raises(MatchError, match="not of a HelmholtzMachine"):
        TableGlow(5).align_with(other)


@pytest.mark.parametrize("saved", [False, True], ids=["at once", "saved in between"])
def test_a_student_standardises_as_its_teacher_does(saved: bool, tmp_path) -> None:
    y = 5.0 + 3.0 * torch.randn(50, 4)
    teacher, student, other = TableGlow(4), TableGlow(4, depth=2), TableGlow(4, depth=2)
    teacher.adapt(Batch(y))
    student.align_with(teacher)
    if saved:
        student.save_pretrained(tmp_path)
        student = TableGlow.from_pretrained(tmp_path)
    student.adapt(Batch(2.0 * y))
    other.adapt(Batch(2.0 * y))
    for name in ("shift", "scale"):
        own, theirs, alone = (getattr(flow.levels[0].entry[0], name) for flow in (student, teacher, other))
        assert torch.equal(own, theirs)
        assert not torch.allclose(own, alone)


def test_weights_from_before_it_was_told_whose_constants_they_are() -> None:
    flow = TableGlow(4)
    flow.load_state_dict({name: tensor for name, tensor in flow.state_dict().items() if not name.endswith("taken")})
    flow.adapt(Batch(5.0 + torch.randn(50, 4)))
    assert flow.levels[0].entry[0].shift.mean() > 4.0


def test_alignment_leaves_a_trained_student_alone() -> None:
    teacher, student = ONE["table glow"].flow(), ONE["table glow"].flow(depth=2, seed=3)
    student.adapt(Batch(*ONE["table glow"].rows(20)))
    before = copy.deepcopy(student.state_dict())
    student.align_with(teacher)
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())


@pytest.mark.parametrize("standardize", [True, False])
def test_a_student_of_one_teacher_is_not_silently_one_of_another(standardize: bool) -> None:
    first, second, student = (TableGlow(4, depth=2, hidden=4, standardize=standardize) for _ in range(3))
    student.align_with(first)
    before = copy.deepcopy(student.state_dict())
    student.align_with(first)  # as where two parts of an objective prepare it
    with pytest.raises(MatchError, match="was aligned with a teacher of other coordinates"):
        student.align_with(second)
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())


@pytest.mark.parametrize(("teacher", "student"), [("table glow", "maf"), ("maf", "table glow")])
def test_a_trained_student_of_another_kind_is_refused_too(teacher: str, student: str) -> None:
    flow = ONE[student].flow()
    flow.adapt(Batch(*ONE[student].rows(20)))
    with pytest.raises(MatchError, match="align=False"):
        flow.align_with(ONE[teacher].flow())
