"""The worst rows count for nothing, and the mean is that of the others."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.distributions import Normal

from limbeck.core.delta import Delta
from limbeck.core.divergence import Trimmed, kl, lp
from limbeck.core.methods import skd
from limbeck.core.objective import Combined
from limbeck.engine.stages.objective_description import describe_value
from limbeck.errors import DivergenceError
from limbeck.models import TableGlow

ZEROS = Delta(torch.zeros(5, 2))


def test_the_mean_is_that_of_the_rows_that_are_kept() -> None:
    values = torch.tensor([[1.0, 1.0], [3.0, 0.0], [1e12, 1.0], [0.5, 0.0], [0.0, 0.0]], requires_grad=True)
    found = Trimmed(0.2)(ZEROS, Delta(values))
    assert torch.equal(found == 0.0, torch.tensor([False, False, True, False, True]))
    kept = torch.tensor([True, True, False, True, True])
    torch.testing.assert_close(found.mean(), lp(ZEROS, Delta(values))[kept].mean())
    found.mean().backward()
    assert values.grad is not None
    assert torch.equal(values.grad[2], torch.zeros(2))
    assert values.grad[1, 0] == 0.25


def test_the_divergence_is_given_the_teacher_first() -> None:
    p, q = Normal(torch.zeros(4, 2), 1.0), Normal(torch.arange(8.0).view(4, 2), 3.0)
    torch.testing.assert_close(Trimmed(0.25, kl)(p, q)[:3], kl(p, q)[:3] * 4 / 3)


@pytest.mark.parametrize(("share", "left_out"), [(0.0, 0), (0.01, 1), (0.2, 1), (0.21, 2), (0.6, 3)])
def test_the_share_is_rounded_up(share: float, left_out: int) -> None:
    rows = Trimmed(share)(ZEROS, Delta(torch.arange(1.0, 11.0).view(5, 2)))
    assert int((rows == 0.0).sum()) == left_out


def test_rounding_leaves_out_no_row_too_many() -> None:
    rows = Trimmed(0.07)(Delta(torch.zeros(100, 1)), Delta(torch.arange(1.0, 101.0)[:, None]))
    assert int((rows == 0.0).sum()) == 7  # 0.07 * 100 is above 7


def test_what_would_leave_nothing_is_refused() -> None:
    with pytest.raises(DivergenceError, match=r"must lie in \[0, 1\), not 1.0"):
        Trimmed(1.0)
    with pytest.raises(DivergenceError, match="leaves nothing of 5 rows"):
        Trimmed(0.9)(ZEROS, ZEROS)


def test_settings_are_part_of_the_fingerprint() -> None:
    made = [Trimmed(), Trimmed(0.1), Trimmed(0.1, partial(lp, order=2.0)), Trimmed(0.1, partial(lp, order=3.0))]
    made.append(Trimmed(0.1, Trimmed()))
    described = [repr(describe_value(each)) for each in made]
    assert len(set(described)) == len(made)
    assert described[2] == repr(describe_value(Trimmed(0.1, partial(lp, order=2.0))))


@pytest.mark.parametrize("inverse", [True, False])
def test_a_sample_far_out_is_no_longer_the_whole_gradient(inverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    teacher, student = (TableGlow(features=3, depth=depth, hidden=8) for depth in (2, 1))
    standard = torch.randn(64, 3)
    monkeypatch.setattr(torch, "randn", lambda *shape, **options: standard)

    def gradient(outlier: float, trim: float) -> float:
        standard[-1] = outlier
        student.zero_grad()
        objective = skd(inverse=inverse, trim=trim)
        assert isinstance(objective, Combined)
        objective.objectives["samples"](teacher, student, batch_size=64, progress=1.0).backward()
        return float(sum(p.grad.square().sum() for p in student.parameters() if p.grad is not None)) ** 0.5

    usual = gradient(1.0, 0.0)
    assert gradient(1e6, 0.0) > 100 * usual
    assert gradient(1e6, 0.01) < 2 * usual
