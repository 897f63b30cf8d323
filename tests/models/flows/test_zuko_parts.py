"""The steps of zuko's flows: random orders, masks and rotations are taken over from a teacher, or refused."""

from __future__ import annotations

import pytest
import torch
import zuko
from zuko.flows import UnconditionalTransform
from zuko.transforms import PermutationTransform

from limbeck import methods
from limbeck.core.loss import Batch
from limbeck.errors import MatchError
from limbeck.models import ZukoFlow
from tests.flows import Bent
from tests.models.flows.zuko_flows import SMALL, maf, rows


def layouts(flow: ZukoFlow, name: str = "order") -> list[list[int]]:
    return [getattr(step.transforms[0], name).int().tolist() for step in flow.levels[0].steps]


def is_autoregressive(flow: ZukoFlow) -> bool:
    """Each step's Jacobian is triangular in the order that the step states."""
    for step in flow.levels[0].steps:
        order = step.transforms[0].order
        y = torch.randn(flow.features)
        jacobian = torch.autograd.functional.jacobian(lambda h: step(h[None])[0][0], y)  # noqa: B023
        sees = order[:, None] > order
        if (jacobian[~sees & ~torch.eye(len(order), dtype=torch.bool)] != 0).any():
            return False
        if (jacobian[sees] == 0).all():
            return False
    return True


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("context", [0, 2])
def test_random_orders_are_taken_over(residual: bool, context: int) -> None:
    torch.manual_seed(1)
    settings = {"features": 5, "context": context, "hidden_features": [8, 8], "residual": residual}
    teacher = ZukoFlow("NSF", transforms=4, randperm=True, **settings)
    for randperm in (False, True):
        student = ZukoFlow("NSF", transforms=2, randperm=randperm, **settings)
        student.align_with(teacher)
        assert layouts(student) == layouts(teacher)[1::2]
        if not context:
            assert is_autoregressive(student)
        y = rows(6, 5)
        x = torch.randn(6, context) if context else None
        torch.testing.assert_close(student.decode(student.encode(y, x), x), y, atol=1e-5, rtol=0.0)


def test_orders_that_take_turns_stay() -> None:
    teacher, student = maf(transforms=6), maf(transforms=3)
    before = layouts(student)
    student.align_with(teacher)
    assert layouts(student) == before == [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]]


def test_orders_of_other_groups_are_refused() -> None:
    teacher, student = maf(randperm=True), maf(transforms=2, passes=2)
    with pytest.raises(MatchError, match="give the student passes=5"):
        student.align_with(teacher)


def test_random_masks_are_taken_over() -> None:
    torch.manual_seed(0)
    teacher = ZukoFlow("NICE", 6, transforms=4, randmask=True, **SMALL)
    student = ZukoFlow("NICE", 6, transforms=2, **SMALL)
    student.align_with(teacher)
    assert layouts(student, "mask") == layouts(teacher, "mask")[1::2]
    y = rows(6, 6)
    torch.testing.assert_close(student.decode(student.encode(y)), y, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("flow", ["NICE", "RealNVP"])
def test_random_masks_of_another_size_are_refused(flow: str) -> None:
    """Of an odd number of columns the steps keep one more and one less in turn."""
    torch.manual_seed(0)
    settings = {"features": 5, "randmask": True, **SMALL}
    teacher = ZukoFlow(flow, transforms=4, **settings)
    with pytest.raises(MatchError, match="as many steps as the teacher has"):
        ZukoFlow(flow, transforms=2, **settings).align_with(teacher)
    student = ZukoFlow(flow, transforms=4, **settings)
    student.align_with(teacher)
    assert layouts(student, "mask") == layouts(teacher, "mask")


def test_masks_that_take_turns_stay() -> None:
    teacher, student = (ZukoFlow("NICE", 6, transforms=depth, **SMALL) for depth in (4, 2))
    before = layouts(student, "mask")
    student.align_with(teacher)
    assert layouts(student, "mask") == before


def test_rotations_are_copied_or_refused() -> None:
    teacher, same, shallow = (ZukoFlow("GF", 4, transforms=depth) for depth in (3, 3, 2))
    same.align_with(teacher)
    for own, theirs in zip(same.levels[0].steps, teacher.levels[0].steps):
        for left, right in zip(own.transforms[1:], theirs.transforms[1:]):
            assert all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters()))
    with pytest.raises(MatchError, match="same number of steps"):
        shallow.align_with(teacher)
    with pytest.raises(MatchError, match="align=False"):
        ZukoFlow("MAF", 4, **SMALL).align_with(teacher)
    with pytest.raises(MatchError, match="align=False"):
        shallow.align_with(Bent(4))


def test_permutations_are_found_in_flows_of_ones_own() -> None:
    def permuted(order: list[int]) -> ZukoFlow:
        parts = list(zuko.flows.MAF(4, transforms=2, **SMALL).transform.transforms)
        parts.insert(1, UnconditionalTransform(PermutationTransform, torch.tensor(order), buffer=True))
        return ZukoFlow.wrap(zuko.flows.Flow(parts, zuko.flows.MAF(4).base))

    teacher, student = permuted([1, 0, 3, 2]), permuted([3, 2, 1, 0])
    assert not teacher.keeps_columns
    assert teacher.step_counts == (2,)
    trained = permuted([3, 2, 1, 0])
    student.align_with(teacher)
    assert student.flow.transform.transforms[1](None).order.tolist() == [1, 0, 3, 2]
    for flow in (student, trained):
        flow.adapt(Batch(rows(6, 4)))
    student.align_with(teacher)
    with pytest.raises(MatchError, match="the student was trained with other permutations"):
        trained.align_with(teacher)
    with pytest.raises(MatchError, match="align=False"):
        ZukoFlow("MAF", 4, **SMALL).align_with(teacher)


def test_distilling_goes_through() -> None:
    torch.manual_seed(0)
    teacher, student = maf(transforms=4).eval(), maf(transforms=2)
    objective = methods.skd()
    objective.prepare(teacher, student)
    loss = objective(teacher, student, batch=Batch(rows(8, 5)), batch_size=8)
    assert loss.terms.keys() == {"data/h[0][1]", "data/u[0]", "data/log_prob", "samples/y"}
    loss.total.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
