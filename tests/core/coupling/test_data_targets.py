"""The coupling that shows both models the data's targets."""

from __future__ import annotations

import pytest
import torch

from limbeck.core.coupling import DataTargets
from limbeck.core.loss import Batch
from limbeck.core.objective import Match, Objective
from limbeck.core.trace import Kind
from limbeck.errors import MatchError, SiteError
from tests.zoo import BY_NAME, labelled, spelled


def test_both_models_see_the_data() -> None:
    teacher, student = BY_NAME["sequence"].pair()
    batch = spelled(6)
    seen = []
    objective = Objective(
        [Match(kind=Kind.TARGET, divergence=lambda p, q: (seen.append((p, q)), torch.zeros(18))[1])], DataTargets()
    )
    state = torch.get_rng_state()
    objective(teacher, student, batch=batch)
    assert torch.equal(state, torch.get_rng_state())  # nothing is drawn
    values = {f"y[{t}]": batch.y[:, t] for t in range(3)}
    (laws,) = seen  # of all three steps at once
    for model, law in zip((teacher, student), laws, strict=True):
        trace = model.trace(x=batch.x, values=values)
        expected = torch.cat([trace[f"y[{step}]"].distribution.logits for step in range(3)])
        torch.testing.assert_close(law.logits, expected)


def test_a_single_target() -> None:
    entry = BY_NAME["network"]
    teacher, student = entry.pair(dtype=torch.float64)
    batch = labelled(5)
    batch = Batch(batch.y, batch.x.double())
    by_data = Objective([Match("y")], DataTargets("y"))(teacher, student, batch=batch)
    assert by_data.total.item() == Objective([Match("y")])(teacher, student, x=batch.x).total.item() > 0


@pytest.mark.parametrize("width", [1, 2, 4])
def test_no_target_is_left_to_chance_and_no_column_to_oblivion(width: int) -> None:
    teacher, student = BY_NAME["sequence"].pair()
    batch = Batch(torch.zeros(6, width, dtype=torch.int64), spelled(6).x)
    with pytest.raises(MatchError, match=rf"y\[{width - 1}\], but.*y\[2\]; give y one column"):
        Objective([Match("y[*]")], DataTargets())(teacher, student, batch=batch)
    with pytest.raises(MatchError, match="the targets w, but"):
        Objective([Match("y[*]")], DataTargets("w"))(teacher, student, batch=batch)


def test_latents_are_refused() -> None:
    teacher, student = BY_NAME["classifier"].pair()
    with pytest.raises(SiteError, match=r"'z'"):
        Objective([Match("y")], DataTargets("y"))(teacher, student, batch=labelled(4))


def test_renamed() -> None:
    teacher, student = BY_NAME["sequence"].pair()
    names = {f"y[{t}]": f"y[{t}]" for t in range(3)}
    batch = spelled(6)
    renamed = Objective([Match(names)], DataTargets())(teacher, student, batch=batch)
    assert renamed.total.item() == Objective([Match("y[*]")], DataTargets())(teacher, student, batch=batch).total.item()
