"""Both inference programs on the same rows: whose rows, with which noise, and what is kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from limbeck import methods
from limbeck.core.coupling import SharedObservations
from limbeck.core.divergence import lp
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Match, Objective
from limbeck.core.sites import Sites
from limbeck.core.trace import Kind
from limbeck.errors import MatchError
from limbeck.models import Glow, StepFlow, TableGlow, ZukoFlow
from tests.flows import ONE, Bend


class Coder(DGM):
    """A model with a random posterior, which is no flow and has no steps."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.encoder = torch.nn.Linear(2, 2)

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        z = sites.latent("z", sites.standard_normal(2))
        sites.target("y", Normal(self.layer(z), 0.1))

    def infer(self, sites: Sites, y: Tensor, x: Tensor | None = None) -> None:
        z = sites.latent("z", Normal(self.encoder(y), torch.ones(2).expand(len(y), 2)))
        sites.deterministic("code", z)


def pair() -> tuple[TableGlow, TableGlow]:
    teacher, student = (ONE["table glow"].flow(depth=depth, seed=depth) for depth in (4, 2))
    return teacher, student


def test_posteriors_share_their_noise() -> None:
    torch.manual_seed(0)
    teacher, student = Coder(), Coder()
    objective = Objective([Match("code", divergence=lp)], SharedObservations())
    y = torch.randn(5, 2)
    loss = objective(teacher, student, batch=Batch(y))
    expected = (teacher.encoder(y) - student.encoder(y)).abs().sum(1).mean()
    torch.testing.assert_close(loss.total, expected)


def test_the_teachers_rows_need_no_data() -> None:
    teacher, student = pair()
    objective = methods.ilkd(observed="teacher")
    assert not objective.needs_data
    assert objective.trains_inference
    assert methods.ilkd().needs_data
    loss = objective(teacher, student, batch_size=8, generator=torch.Generator().manual_seed(0))
    drawn = teacher.sample(8, generator=torch.Generator().manual_seed(0))["y"]
    expected = methods.ilkd()(teacher, student, batch=Batch(drawn))
    torch.testing.assert_close(loss.total, expected.total)


def test_gradients_pass_through_the_teacher_to_the_students_own_rows() -> None:
    teacher, student = pair()
    teacher.train()
    next(teacher.children()).eval()
    modes, within = {module: module.training for module in teacher.modules()}, []
    for module in modes:
        module.register_forward_pre_hook(lambda module, given: within.append(module.training))
    loss = methods.reverse_density()(teacher, student, batch_size=8)
    assert within
    assert not any(within)
    assert {module: module.training for module in teacher.modules()} == modes
    loss.total.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in teacher.parameters())
    assert teacher.training
    own = [parameter.grad.clone() for parameter in student.parameters()]
    student.zero_grad()
    drawn = student.sample(8)["y"]
    (student.log_prob(drawn) - teacher.log_prob(drawn)).mean().backward()  # the rows held fast: another gradient
    assert any(not torch.allclose(left, parameter.grad) for left, parameter in zip(own, student.parameters()))


def test_a_pool_is_drawn_once_for_a_training() -> None:
    teacher, student = pair()
    objective = methods.density(pool=5000)
    with pytest.raises(MatchError, match="prepare"):
        objective(teacher, student, batch_size=4)
    torch.manual_seed(0)
    objective.prepare(teacher, student)
    pool = objective.coupling._rows
    assert pool.shape == (4990, 5)  # without the least likely ones
    assert len(pool.unique(dim=0)) == 4990
    calls = 0
    sample = teacher.trace

    def counted(*args, **kwargs):
        nonlocal calls
        calls += 1
        return sample(*args, **kwargs)

    teacher.trace = counted
    losses = [objective(teacher, student, batch_size=64).total.item() for _ in range(3)]
    assert calls == 0
    assert len(set(losses)) == 3
    seeded = [objective(teacher, student, batch_size=64, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(seeded[0].total, seeded[1].total)
    torch.manual_seed(0)
    objective.prepare(teacher, student)
    assert torch.equal(objective.coupling._rows, pool)
    assert "_rows" not in repr(objective.coupling)


def test_a_pool_leaves_out_what_the_teacher_finds_least_likely() -> None:
    teacher, student = pair()
    coupling = SharedObservations("teacher", pool=1000, trim=0.1)
    torch.manual_seed(0)
    coupling.prepare(teacher, student)
    torch.manual_seed(0)
    everything = SharedObservations("teacher", pool=1000, trim=0.0)
    everything.prepare(teacher, student)
    assert len(everything._rows) == 1000
    density = teacher.log_prob(everything._rows)
    assert torch.equal(coupling._rows, everything._rows[density >= density.sort().values[100]])


def test_a_pool_leaves_out_samples_that_left_the_number_format() -> None:
    """A flow whose inverse overflows for some latents."""

    class Steep(Bend):
        def numbers(self, first: Tensor) -> tuple[Tensor, Tensor]:
            return torch.zeros_like(first), torch.where(first > 1.0, -200.0, 0.0)

    teacher = StepFlow([Steep(2, 2)], 2)
    coupling = SharedObservations("teacher", pool=1000, trim=0.0)
    coupling.prepare(teacher, StepFlow([Bend(2, 2)], 2))
    assert not teacher.sample(1000)["y"].isfinite().all()
    assert coupling._rows.isfinite().all()
    assert 750 < len(coupling._rows) < 900  # 16 % of the latents are above 1


def test_mixed_rows_are_some_of_the_data_and_some_of_the_teachers() -> None:
    kind = ONE["told glow"]
    teacher, student = kind.flow(depth=3), kind.flow(depth=2, seed=2)
    y, x = kind.rows(8)
    objective = methods.ilkd(observed="mixed", share=0.25)
    assert objective.needs_data
    loss = objective(teacher, student, batch=Batch(y, x), generator=torch.Generator().manual_seed(0))
    drawn = teacher.sample(2, x[6:], generator=torch.Generator().manual_seed(0))["y"]
    expected = methods.ilkd()(teacher, student, batch=Batch(torch.cat([y[:6], drawn]), x))
    torch.testing.assert_close(loss.total, expected.total)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"share": 1.0}, "share"), ({"share": 0.0}, "share"), ({"trim": 1.0}, "trim"), ({"trim": -0.1}, "trim"),
     ({"depth": []}, "depth names no steps")],
)  # fmt: skip
def test_settings_that_compare_nothing_or_cannot_be(arguments: dict, message: str) -> None:
    with pytest.raises(MatchError, match=message):
        SharedObservations("mixed", **arguments)


def test_a_pool_has_no_conditions() -> None:
    kind = ONE["told glow"]
    teacher, student = kind.flow(depth=3), kind.flow(depth=2)
    _, x = kind.rows(4)
    with pytest.raises(MatchError, match="pool=0"):
        methods.density(pool=10).prepare(teacher, student, x)


def test_preparing_aligns_unless_told_otherwise() -> None:
    teacher = TableGlow(5, 4, 4)
    for align, objective in ((True, methods.ilkd()), (False, methods.ilkd(align=False))):
        student = TableGlow(5, 2, 4)
        objective.prepare(teacher, student)
        assert student.aligned.item() is align
    methods.ilkd(align=False).prepare(ZukoFlow("MAF", 5), TableGlow(5))
    with pytest.raises(MatchError, match="align=False"):
        methods.ilkd().prepare(ZukoFlow("MAF", 5), TableGlow(5))


def test_only_what_is_compared_is_kept() -> None:
    teacher, student = pair()
    kept: list[set[str]] = []

    class Watched(SharedObservations):
        def __call__(self, *args):
            taught, learned = super().__call__(*args)
            kept.append(set(taught))
            kept.append(set(learned))
            return taught, learned

    y = ONE["table glow"].rows(4)[0]
    Objective([Match("u[*]", divergence=lp, kind=Kind.LATENT)], Watched())(teacher, student, batch=Batch(y))
    assert kept == [{"u[0]"}, {"u[0]"}]
    Objective([Match("h[*][*]", divergence=lp)], Watched())(teacher, student, batch=Batch(y))
    assert kept[3] == {"h[0][1]"}


def test_steps_of_unequal_levels_are_refused() -> None:
    with pytest.raises(MatchError, match="2 levels and the student 1"):
        methods.ilkd()(Glow(4, 1, 2, 2, 2), Glow(4, 1, 1, 2, 2), batch=Batch(torch.rand(3, 1, 4, 4)))
