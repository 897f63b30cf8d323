"""What every coupling says of its needs, and that one of one's own will do."""

from __future__ import annotations

import pytest

from limbeck.core.coupling import (
    DataTargets,
    Request,
    SharedNoise,
    WithData,
    WithPosterior,
    needs_data,
    runs_inference,
)
from limbeck.core.divergence import kl
from limbeck.core.graph import DGM
from limbeck.core.objective import Match, Objective
from limbeck.core.trace import Trace
from tests.small_models import CHAIN, LinearGaussian


def test_a_coupling_of_ones_own() -> None:
    """Anything with the signature of a coupling serves: here, two unrelated runs."""

    def apart(teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        taught = teacher.trace(request.batch_size, keep=request.keep_teacher)
        return taught, student.trace(request.batch_size, keep=request.keep_student(taught))

    model = LinearGaussian(CHAIN)
    loss = Objective([Match("z2", divergence=kl)], apart)(model, model, batch_size=3)
    assert loss.total.item() == pytest.approx(0.0, abs=1e-6)


def test_what_a_coupling_needs_is_what_it_and_the_one_within_need() -> None:
    told = {
        SharedNoise(): (False, False),
        DataTargets(): (True, False),
        WithData(): (True, False),
        WithPosterior(): (False, True),
        WithData(WithPosterior()): (True, True),
        WithPosterior(WithData()): (True, True),
        (lambda teacher, student, request: SharedNoise()(teacher, student, request)): (False, False),
    }
    for coupling, expected in told.items():
        assert (needs_data(coupling), runs_inference(coupling)) == expected
        objective = Objective([Match("y")], coupling)
        assert (objective.needs_data, objective.trains_inference) == expected
