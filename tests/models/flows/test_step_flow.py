"""Flows of others: how their steps are read, and permutations that disappear."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from limbeck import methods
from limbeck.core.loss import Batch
from limbeck.errors import MatchError, ModelError
from limbeck.models import StepFlow, TableGlow
from limbeck.models.flows.step_flow import ForeignStep
from tests.flows import Bend, Bent, Roll


class Other(nn.Module):
    """The same coupling under other names: it maps latents to data, and gives log-determinants apart."""

    def __init__(self, bend: Bend) -> None:
        super().__init__()
        self.bend = bend

    def to_latents(self, h: Tensor) -> Tensor:
        return self.bend(h)[0]

    def to_data(self, h: Tensor) -> tuple[Tensor, Tensor]:
        y = self.bend.inverse(h)
        return y, -self.bend(y)[1]

    def slope(self, h: Tensor, following: Tensor) -> Tensor:
        assert torch.equal(following, self.to_latents(h))
        return torch.cat([torch.zeros_like(h[:, : self.bend.half]), self.bend.numbers(h[:, : self.bend.half])[1]], 1)


class Told(nn.Module):
    """A shift by what the conditioning input says; its log-determinant is one number for all rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 4)

    def forward(self, h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return 2.0 * h + self.layer(x), h.new_tensor(4 * 2.0).log() * 0.0 + 4 * torch.tensor(2.0).log()

    def inverse(self, h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return (h - self.layer(x)) / 2.0, torch.tensor(0.0)


class Squash(nn.Module):
    """No parameters, and no permutation."""

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return torch.asinh(h), -torch.log1p(h * h) / 2.0

    def inverse(self, h: Tensor) -> Tensor:
        return torch.sinh(h)


def plain(modules: list[nn.Module], y: Tensor) -> tuple[Tensor, Tensor]:
    """The steps in turn, as their own library runs them."""
    total = torch.zeros(len(y))
    for module in modules:
        y, change = module(y)
        total = total + (change.sum(1) if change.ndim == 2 else change)
    return y, total + torch.distributions.Normal(0.0, 1.0).log_prob(y).sum(1)


def test_permutations_disappear() -> None:
    torch.manual_seed(0)
    modules = [Bend(5, 4), Roll(1), Bend(5, 4), Roll(2), Roll(1), Bend(5, 4), Roll(3)]
    flow = StepFlow(modules, 5)
    y = torch.randn(7, 5)
    latents, density = plain(modules, y)
    assert flow.step_counts == (3,)
    torch.testing.assert_close(flow.log_prob(y), density)
    trace = flow.trace_inference(y)
    torch.testing.assert_close(trace["u[0]"].value, latents.roll(-7, 1))
    torch.testing.assert_close(trace["h[0][1]"].value, modules[0](y)[0])
    middle = modules[2](modules[1](modules[0](y)[0])[0])[0]
    torch.testing.assert_close(trace["h[0][2]"].value, middle.roll(-1, 1))
    torch.testing.assert_close(flow.decode(flow.encode(y)), y)


def test_images_are_permuted_too() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_scale = nn.Parameter(torch.randn(2, 1, 1))

        def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
            return h * self.log_scale.exp(), 9 * self.log_scale.sum()

        def inverse(self, h: Tensor) -> Tensor:
            return h * torch.exp(-self.log_scale)

    modules = [Scale(), Roll(1), Scale()]
    flow = StepFlow(modules, (2, 3, 3))
    y = torch.randn(4, 2, 3, 3)
    expected = modules[2](modules[0](y)[0].roll(1, 1))[0].roll(-1, 1)
    torch.testing.assert_close(flow.encode(y)[0], expected)
    torch.testing.assert_close(flow.decode(flow.encode(y)), y)


def test_other_names_and_directions() -> None:
    torch.manual_seed(0)
    bends = [Bend(5, 4), Bend(5, 4)]
    reference = StepFlow(bends, 5)
    y = torch.randn(6, 5)
    apart = StepFlow([Other(bend) for bend in bends], 5, forward="to_latents", inverse="to_data", log_det="slope")
    torch.testing.assert_close(apart.log_prob(y), reference.log_prob(y))
    torch.testing.assert_close(apart.decode(apart.encode(y)), y)
    # As libraries whose first step is the one next to the latents, and whose `forward` draws, have it.
    backwards = StepFlow([Other(bend) for bend in bends], 5, forward="to_data", inverse="to_latents")
    torch.testing.assert_close(
        backwards.encode(apart.decode(apart.encode(y)))[0], bends[1].inverse(bends[0].inverse(y))
    )


def test_what_has_no_parameters_belongs_to_the_step_before() -> None:
    torch.manual_seed(0)
    modules = [Squash(), Bend(5, 4), Squash(), Roll(1), Bend(5, 4)]
    flow = StepFlow(modules, 5)
    y = torch.randn(6, 5)
    assert flow.step_counts == (2,)
    assert len(flow.levels[0].entry) == 1
    torch.testing.assert_close(flow.log_prob(y), plain(modules, y)[1])
    assert StepFlow([Bend(5, 4), Roll(1), Squash(), Bend(5, 4)], 5).step_counts == (3,)


def test_a_step_of_several_modules() -> None:
    modules = [Bend(4, 2), Roll(1), Bend(4, 2), Bend(4, 2)]
    flow = StepFlow([modules[:3], modules[3]], 4)
    y = torch.randn(6, 4)
    assert flow.step_counts == (2,)
    torch.testing.assert_close(flow.log_prob(y), plain(modules, y)[1])


def test_conditions_are_handed_on() -> None:
    flow = StepFlow([Told(), Told()], 4)
    y, x = torch.randn(6, 4), torch.randn(6, 2)
    assert flow.step_counts == (2,)
    torch.testing.assert_close(flow.decode(flow.encode(y, x), x), y)
    assert not torch.allclose(flow.log_prob(y, x), flow.log_prob(y, -x))
    assert flow.log_prob(y, x).shape == (6,)


class Insisting(nn.Module):
    """Methods that cannot be called without a conditioning input: a permutation, which does not use it, or a shift."""

    def __init__(self, shift: bool = False) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return h + x[:, :1] if self.shift else h.roll(1, 1), h.new_zeros(len(h))

    def inverse(self, h: Tensor, x: Tensor) -> Tensor:
        return h - x[:, :1] if self.shift else h.roll(-1, 1)


def test_permutations_that_are_given_conditions_disappear() -> None:
    y, x = torch.randn(6, 4), torch.randn(6, 2)
    first, second = Told(), Told()
    flow = StepFlow([first, Insisting(), second, Insisting(shift=True)], 4)
    middle = first(y, x)[0]
    assert flow.step_counts == (2,)
    latents = flow.encode(y, x)[0]
    torch.testing.assert_close(latents, second(middle.roll(1, 1), x)[0].roll(-1, 1) + x[:, :1])
    torch.testing.assert_close(flow.decode([latents], x), y)


def test_a_subclass_can_be_saved_and_a_bare_one_not(tmp_path) -> None:
    Bent(4).save_pretrained(tmp_path / "bent")
    with pytest.raises(ModelError, match="plain JSON"):
        StepFlow([Bend(4, 2)], 4).save_pretrained(tmp_path / "bare")


def test_flows_with_different_permutations_are_compared_column_by_column() -> None:
    """A deep student of steps that do nothing: whatever the permutations, both see the data."""

    def still(rolls: list[int]) -> StepFlow:
        steps: list[nn.Module] = []
        for places in rolls:
            bend = Bend(5, 4)
            for parameter in bend.parameters():
                nn.init.zeros_(parameter)
            steps += [bend, Roll(places)]
        return StepFlow(steps, 5)

    loss = methods.ilkd(1.0, 0.0)(still([1, 2, 3, 4]), still([2, 2]), batch=Batch(torch.randn(6, 5)))
    assert set(loss.terms) == {"h[0][1]", "u[0]"}
    assert loss.total == 0.0


def test_flows_that_mix_are_not_compared() -> None:
    mixed, kept = StepFlow([Bend(5, 2)], 5, mixes=True), StepFlow([Bend(5, 2)], 5)
    kept.align_with(StepFlow([Bend(5, 2), Bend(5, 2)], 5))
    for student, teacher in ((kept, mixed), (mixed, StepFlow([Bend(5, 2)], 5)), (mixed, TableGlow(5))):
        with pytest.raises(MatchError, match="align=False"):
            StepFlow([Bend(5, 2)], 5, mixes=student is mixed).align_with(teacher)


class Norm(nn.Module):
    """Sets its constants by the first rows that it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("done", torch.tensor(False))
        self.register_buffer("shift", torch.zeros(4))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and not self.done:
            self.shift.copy_(h.mean(0))
            self.done.fill_(True)
        return h - self.shift, h.new_zeros(())

    def inverse(self, h: Tensor) -> Tensor:
        return h + self.shift


class Jitter(nn.Module):
    """Noise while it is trained."""

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return h + torch.randn_like(h) if self.training else h, h.new_zeros(())

    def inverse(self, h: Tensor) -> Tensor:
        return h


@pytest.mark.parametrize("training", [True, False])
def test_building_changes_no_module(training: bool) -> None:
    norm, jitter = Norm().train(training), Jitter().train(training)
    state = torch.get_rng_state()
    bend = Bend(4, 2)
    torch.set_rng_state(state)
    flow = StepFlow([bend, norm, Roll(1), Bend(4, 2), jitter] if training else [norm, jitter, bend], 4)
    assert not norm.done
    assert (norm.training, jitter.training) == (training, training)
    assert {norm, jitter} <= set(flow.modules())  # neither is taken for a permutation that disappears
    if not training:
        assert torch.equal(torch.get_rng_state(), state)


def test_modules_without_the_methods_are_refused() -> None:
    with pytest.raises(ModelError, match="a Linear has no method 'inverse'"):
        StepFlow([nn.Linear(3, 3)], 3)
    with pytest.raises(ModelError, match="at least one step"):
        StepFlow([Roll(1)], 3)
    flow = StepFlow([Other(Bend(4, 2))], 4, forward="to_latents", inverse="to_data")
    with pytest.raises(ModelError, match="name the method that gives the log-determinant"):
        flow.log_prob(torch.randn(2, 4))


def test_a_step_keeps_its_permutation_when_it_moves() -> None:
    step = ForeignStep([Bend(3, 2)], places=torch.tensor([2, 0, 1]))
    assert step.places.tolist() == [2, 0, 1]
    assert step.back.tolist() == [1, 2, 0]
    assert "places" not in step.state_dict()
    h = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(step.double().inverse(step(h)[0]), h)


def test_rows_of_two_dimensions_are_standardised() -> None:
    class Stretch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_scale = nn.Parameter(torch.zeros(4, 4))

        def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
            return h * self.log_scale.exp(), self.log_scale.sum()

        def inverse(self, h: Tensor) -> Tensor:
            return h * (-self.log_scale).exp()

    flow = StepFlow([Stretch()], (4, 4), standardize=True)
    y = 3.0 + 2.0 * torch.randn(50, 4, 4, generator=torch.Generator().manual_seed(0))
    flow.adapt(Batch(y))
    (u,) = flow.encode(y)
    torch.testing.assert_close(u.mean(0), torch.zeros(4, 4), atol=1e-5, rtol=0.0)
    expected = Normal(y.mean(0), y.std(0, correction=0)).log_prob(y).flatten(1).sum(1)
    torch.testing.assert_close(flow.log_prob(y), expected, atol=1e-3, rtol=1e-4)
