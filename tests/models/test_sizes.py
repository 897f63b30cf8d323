"""What models refuse as the part of a training over which their loss warms up."""

from __future__ import annotations

import math

import pytest

from limbeck.core.graph import DGM
from limbeck.errors import ModelError
from limbeck.models import VRNN, LadderVAE


@pytest.mark.parametrize("kind", [LadderVAE, VRNN])
@pytest.mark.parametrize("warm_up", [-0.5, 1.5, math.nan])
def test_no_part_of_a_training(kind: type[DGM], warm_up: float) -> None:
    with pytest.raises(ModelError, match=rf"{kind.__name__}: warm_up is a fraction .* in \[0, 1\], not {warm_up}"):
        kind(warm_up=warm_up)  # type: ignore[call-arg]
