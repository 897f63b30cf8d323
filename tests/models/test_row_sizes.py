"""A flow and data of different widths: both are named before the first step."""

from __future__ import annotations

import pytest
import torch

from limbeck import methods
from limbeck.core.loss import Batch
from limbeck.engine.settings.options import Training
from limbeck.engine.training.fit import fit
from limbeck.errors import ModelError
from limbeck.models import TableGlow


@pytest.mark.parametrize("features", [2, 4])
def test_columns_and_features(features: int) -> None:
    told = f"TableGlow is for rows of {features} numbers, but these have 3 .* as many features as the data have columns"
    rows = Batch(torch.randn(50, 3))
    with pytest.raises(ModelError, match=told):
        fit(TableGlow(features), methods.scratch(), Training(steps=1), data=rows)
    with pytest.raises(ModelError, match=told):
        TableGlow(features).log_prob(rows.y)
