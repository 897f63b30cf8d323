"""Rows, inputs and teachers of another precision than the student serve its preparation as they serve its training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.distributions import Categorical

from limbeck import Batch, methods
from limbeck.core.graph import DGM
from limbeck.core.sites import Sites
from limbeck.engine.distill import distill
from limbeck.engine.settings.options import TrainerOptions
from limbeck.models import TableGlow
from tests.engine.training.short_trainings import options

ROWS = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))


def flow(depth: int, **settings: Any) -> TableGlow:
    torch.manual_seed(depth)
    return TableGlow(features=4, depth=depth, hidden=8, **settings)


class Classifier(DGM):
    """Its hidden feature is a site, which a learned divergence can compare."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, width), nn.Linear(width, 3)

    def generate(self, sites: Sites, x: torch.Tensor | None = None) -> None:
        assert x is not None
        feature = sites.deterministic("h", self.body(x))
        sites.target("y", Categorical(logits=self.head(feature.tanh())))


class TestPrecision:
    def test_rows_of_numpys_precision_prepare_as_their_rounded_selves(self) -> None:
        students = []
        for rows in (ROWS, ROWS.double()):
            student = flow(2, standardize=True)
            distill(
                flow(3, standardize=True),
                student,
                methods.ilkd(),
                data=Batch(rows),
                training=options(steps=2),
                progress=False,
            )
            students.append(student)
        for first, second in zip(students[0].parameters(), students[1].parameters(), strict=True):
            assert torch.equal(first, second)

    @pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_flow_learns_from_samples_of_any_precision(self, dtype: torch.dtype, precision: str) -> None:
        teacher, trainer = flow(3).to(dtype), TrainerOptions(precision=precision)
        for objective in (methods.density(), methods.ilkd(observed="teacher", pool=64)):
            distill(teacher, flow(2), objective, training=options(steps=2), trainer=trainer, progress=False)
        assert next(teacher.parameters()).dtype is dtype

    @pytest.mark.parametrize(("dtype", "x"), [(torch.float32, ROWS.double()), (torch.float64, ROWS)])
    def test_what_an_objective_learns_is_sized_by_inputs_of_any_precision(
        self, dtype: torch.dtype, x: torch.Tensor
    ) -> None:
        data = Batch(torch.zeros(40, dtype=torch.long), x)
        objective = methods.transfer(["h:vid", "y:kd"])
        found = distill(
            Classifier(8).to(dtype), Classifier(4), objective, data=data, training=options(steps=2), progress=False
        )
        assert next(found.objective.learned.parameters()).dtype is torch.float32
