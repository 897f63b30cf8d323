"""Sums of objectives, and weights that change."""

from __future__ import annotations

import pytest
import torch

from limbeck import methods
from limbeck.core.loss import Batch
from limbeck.core.objective import Combined
from limbeck.core.schedule import Ramp
from limbeck.errors import MatchError
from tests.flows import ONE
from tests.zoo import BY_NAME


def flows() -> tuple:
    kind = ONE["maf"]
    return kind.flow(depth=4), kind.flow(depth=2, seed=3), Batch(*kind.rows(6))


def test_a_sum_is_the_sum_of_its_parts() -> None:
    teacher, student, batch = flows()
    parts = {"latents": methods.lkd(), "own": methods.scratch()}
    whole = Combined(parts, {"own": 0.25})(teacher, student, batch=batch)
    alone = {name: part(teacher, student, batch=batch) for name, part in parts.items()}
    torch.testing.assert_close(whole.total, alone["latents"].total + 0.25 * alone["own"].total)
    assert set(whole.terms) == {"latents/u[0]", "latents/log_prob", "own/nll"}
    torch.testing.assert_close(whole.terms["own/nll"], 0.25 * alone["own"].terms["nll"])


def test_one_generator_serves_the_parts_in_turn() -> None:
    entry = BY_NAME["chain"]
    teacher, student = entry.pair()
    part = methods.surrogate()
    generator = torch.Generator().manual_seed(0)
    whole = Combined({"a": part, "b": part})(teacher, student, batch_size=4, generator=generator).total
    generator = torch.Generator().manual_seed(0)
    alone = sum(part(teacher, student, batch_size=4, generator=generator).total for _ in range(2))
    torch.testing.assert_close(whole, alone)


def test_what_a_sum_needs_is_what_any_part_needs() -> None:
    data, free = methods.lkd(), methods.surrogate()
    for parts, needs_data, trains in (([data, free], True, True), ([free], False, False), ([data], True, True)):
        whole = Combined({str(index): part for index, part in enumerate(parts)})
        assert whole.needs_data is needs_data
        assert whole.trains_inference is trains
        assert whole.needs_teacher
    assert not Combined({"own": methods.scratch()}).needs_teacher
    relaxed = methods.surrogate(discrete_gradient="relaxed")
    assert Combined({"relaxed": relaxed, "free": free}).scheduled
    assert not Combined({"data": data, "free": free}).scheduled


def test_a_part_without_weight_is_not_run() -> None:
    teacher, student, batch = flows()
    runs: list[str] = []

    class Watched(methods.lkd().__class__):
        def forward(self, *args, **kwargs):
            runs.append("run")
            return super().forward(*args, **kwargs)

    late = Watched(methods.lkd().matches, methods.lkd().coupling)
    whole = Combined({"own": methods.scratch(), "late": late}, {"late": Ramp(0.0, 1.0, begin=0.5)})
    whole(teacher, student, batch=batch, progress=0.2)
    assert runs == []
    whole(teacher, student, batch=batch, progress=0.7)
    assert runs == ["run"]


def test_preparing_reaches_every_part() -> None:
    teacher = ONE["maf"].flow(depth=4)
    student = ONE["maf"].build(2).double()
    whole = Combined({"own": methods.scratch(), "pooled": methods.density(pool=7)})
    whole.prepare(teacher, student)
    assert student.aligned
    assert len(whole.objectives["pooled"].coupling._rows) == 7


def test_what_makes_no_sum_is_refused() -> None:
    teacher, student, batch = flows()
    with pytest.raises(MatchError, match="there are no parts"):
        Combined({})
    for name in ("a.b", "keys", ""):
        with pytest.raises(MatchError, match=r"cannot be called so: .*another name"):
            Combined({name: methods.lkd()})
    with pytest.raises(MatchError, match="'latent' belongs to no part; parts: latents"):
        Combined({"latents": methods.lkd()}, {"latent": 1.0})
    with pytest.raises(MatchError, match="every part of this objective has weight 0"):
        Combined({"latents": methods.lkd()}, {"latents": 0.0})(teacher, student, batch=batch)


def test_a_ramp_is_straight_between_two_ends() -> None:
    ramp = Ramp(2.0, -1.0, begin=0.25, finish=0.75)
    assert [ramp(progress) for progress in (0.0, 0.25, 0.5, 0.75, 1.0)] == [2.0, 2.0, 0.5, -1.0, -1.0]
    assert Ramp(0.0, 1.0)(0.3) == pytest.approx(0.3)
    step = Ramp(0.0, 1.0, begin=0.5, finish=0.5)
    assert (step(0.49), step(0.5)) == (0.0, 1.0)


@pytest.mark.parametrize(("begin", "finish"), [(0.6, 0.5), (-0.1, 0.5), (0.2, 1.1)])
def test_a_ramp_has_its_ends_within_the_training(begin: float, finish: float) -> None:
    with pytest.raises(MatchError, match="0 <= begin <= finish <= 1"):
        Ramp(0.0, 1.0, begin=begin, finish=finish)


def test_joint_of_a_sum_keeps_its_parts() -> None:
    teacher, student, batch = flows()
    whole = methods.skd(0.2, 0.3, 0.5, inverse=False)
    seed = torch.Generator
    alone = whole(teacher, student, batch=batch, generator=seed().manual_seed(1)).total
    own = student.loss(batch).total
    joint = methods.joint(0.25, whole)(teacher, student, batch=batch, generator=seed().manual_seed(1))
    torch.testing.assert_close(joint.total, 0.25 * alone + 0.75 * own)
    with pytest.raises(MatchError, match="adds the loss on data itself"):
        methods.joint(0.25, methods.combined({"own": methods.scratch()}))
