"""The recurrent model of drawings: all its ways to run agree, and what follows an end counts for nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from limbeck.core import methods
from limbeck.core.bounds import importance_weighted_bound
from limbeck.core.loss import Batch
from limbeck.core.trace import Kind, Trace
from limbeck.errors import ModelError, SiteError
from limbeck.models import VRNN, stroke_kl
from tests.models.vrnn.small_vrnns import built, drawings


def gradients(model: VRNN, trace: Trace) -> dict[str, Tensor]:
    model.zero_grad()
    trace.log_prob().sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("options", [{}, {"ends": False}, {"truncate": 2}, {"truncate": 1}, {"components": 2}])
def test_all_paths_agree(options: dict) -> None:
    model = built(steps=5, **options)
    first = model.trace(6, generator=torch.Generator().manual_seed(0))
    values = {name: value.detach() for name, value in first.values.items()}
    y = {name: value for name, value in values.items() if name.startswith("y")}
    noise = {name: value for name, value in first.noise.items() if name.startswith("z")}
    sites = model._sites(6, None, None, values)
    model._draw(sites)  # step by step, although everything is given
    followed, at_once = model.trace(6, noise=noise, values=y), model.trace(6, values=values)
    for trace in (sites.trace, followed, at_once):
        torch.testing.assert_close(trace.log_prob(), first.log_prob())
    assert list(at_once) == list(first)
    assert set(followed) == set(first)
    slow, fast = gradients(model, sites.trace), gradients(model, at_once)
    for name, gradient in fast.items():  # cut at every step, nothing reaches the recurrence
        torch.testing.assert_close(gradient, slow.get(name, torch.zeros_like(gradient)))


@pytest.mark.parametrize("given", ["y", "both"])
def test_truncation_cuts_gradients_and_keeps_values(given: str) -> None:
    whole, cut = built(steps=5, ends=False), built(steps=5, ends=False, truncate=2)
    first = whole.trace(4, generator=torch.Generator().manual_seed(0))
    found = {}
    for name, model in (("whole", whole), ("cut", cut)):
        y = {n: v.clone().requires_grad_() for n, v in first.targets.items() for v in [v.detach()]}
        values = dict(y)
        noise = {n: v for n, v in first.noise.items() if n.startswith("z")}
        if given == "both":
            values |= {n: v.detach() for n, v in first.values.items() if n.startswith("z")}
        trace = model.trace(noise=noise, values=values)
        loss = trace["y[4]"].distribution.log_prob(first["y[4]"].value.detach()).sum()
        loss.backward()
        found[name] = (
            loss.item(),
            [y[f"y[{t}]"].grad is not None and bool((y[f"y[{t}]"].grad != 0).any()) for t in range(5)],
        )
    assert found["whole"][0] == pytest.approx(found["cut"][0], rel=1e-12)
    assert found["whole"][1] == [True, True, True, True, False]
    assert found["cut"][1] == [False, False, False, False, False]  # steps 4 starts behind a cut


def test_truncated_loss_has_the_same_value() -> None:
    whole, cut, y = built(), built(truncate=2), drawings()
    values = []
    for model in (whole, cut):
        torch.manual_seed(0)
        loss = model.loss(Batch(y)).total
        loss.backward()
        values.append(loss.item())
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    assert not torch.allclose(whole.lstm.weight_ih_l0.grad, cut.lstm.weight_ih_l0.grad)


def test_ended_rows_are_masked() -> None:
    model = built(steps=40)
    trace = model.trace(8, generator=torch.Generator().manual_seed(1))
    alive = torch.ones(8, dtype=torch.bool)
    steps = len(trace.of_kind(Kind.TARGET))
    for step in range(steps):
        for name in (f"z[{step}]", f"y[{step}]"):
            mask = trace[name].mask
            assert torch.equal(alive, torch.ones_like(alive) if mask is None else mask)
        alive = alive & (trace[f"y[{step}]"].value[:, 3] == 0)
    assert steps < 40
    assert not alive.any()  # it stopped because nobody was left
    y = model.join_targets(trace.targets)
    assert y.shape == (8, 40, 4)
    again = model.split_targets(y)
    assert list(again) == [f"y[{step}]" for step in range(steps)]
    replay = model.trace(values={**again, **{n: v for n, v in trace.values.items() if n.startswith("z")}}, noise={})
    torch.testing.assert_close(replay.log_prob(), trace.log_prob())


def test_what_follows_an_end_counts_for_nothing() -> None:
    model, y = built(), drawings()
    garbage = y.clone()
    after = (y[..., 3].cumsum(1) - y[..., 3]) > 0
    garbage[after] = 1e3
    losses = []
    for rows in (y, garbage):
        torch.manual_seed(0)
        losses.append(model.loss(Batch(rows)).total.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_fixed_length_takes_lengths_from_the_data_and_draws_all_steps() -> None:
    model, y = built(ends=False), drawings()
    assert model.join_targets(model.sample(4)).shape == (4, 3, 3)
    torch.manual_seed(0)
    masked = model.loss(Batch(y)).total
    garbage = torch.where((y[..., 3].cumsum(1) - y[..., 3] > 0)[..., None], 1e3, y)
    torch.manual_seed(0)
    assert model.loss(Batch(garbage)).total.item() == pytest.approx(masked.item(), rel=1e-12)
    assert model.loss(Batch(y[..., :3])).total.item() != pytest.approx(masked.item(), rel=1e-3)


def test_normalisation_is_set_once_and_saved(tmp_path) -> None:
    model, y = VRNN(steps=3, width=4, features=4, latent_size=2).double(), drawings(60)
    with pytest.raises(ModelError, match="built for drawings"):  # which sets nothing
        model.adapt(Batch(y[..., :2]))
    model.adapt(Batch(y))
    there = torch.arange(3) <= (torch.arange(60) % 3)[:, None]
    torch.testing.assert_close(model.shift, y[there][:, :2].mean(0))
    torch.testing.assert_close(model.scale, y[there][:, :2].std(0, correction=0))
    before = model.shift.clone()
    model.adapt(Batch(y + 100.0))
    assert torch.equal(model.shift, before)
    model.save_pretrained(tmp_path)
    loaded = VRNN.from_pretrained(tmp_path)
    assert torch.equal(loaded.shift, model.shift)
    assert loaded.adapted


def test_units_do_not_change_the_law() -> None:
    """A model of centimetres that is scaled to millimetres says the same of the same drawing, up to the Jacobian."""
    model, y = built(), drawings()
    larger = copy.deepcopy(model)
    larger.shift.mul_(10.0)
    larger.scale.mul_(10.0)
    scaled = torch.cat([10.0 * y[..., :2], y[..., 2:]], 2)
    losses = []
    for one, rows in ((model, y), (larger, scaled)):
        torch.manual_seed(0)
        losses.append(one.loss(Batch(rows)).total.item())
    points = 2.0  # a drawing, on average
    assert losses[1] - losses[0] == pytest.approx(points * 2 * torch.tensor(10.0).log().item(), rel=1e-6)


def test_mixtures_are_distilled_with_their_own_divergence() -> None:
    teacher, student = built(0, components=3), built(1, components=2)
    loss = methods.surrogate(target=stroke_kl)(teacher, student, batch_size=64)
    assert torch.isfinite(loss.total)
    assert methods.surrogate(target=stroke_kl)(teacher, copy.deepcopy(teacher), batch_size=8).total.item() == 0.0


def test_the_bound_rises_with_the_samples() -> None:
    model, y = built(), drawings(12)
    generator = torch.Generator().manual_seed(0)
    low, high = (importance_weighted_bound(model, y, samples=k, generator=generator).mean() for k in (1, 200))
    assert high > low


@pytest.mark.parametrize("ends", [True, False])
def test_the_bound_counts_the_steps_that_exist(ends: bool) -> None:
    """With one particle a particle filter that proposes from the posterior is the bound, draw for draw."""
    model = built(ends=ends)

    def both(y: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (torch.Generator().manual_seed(0) for _ in range(2))
        likelihood = model.log_likelihood(y, particles=1, proposal="posterior", generator=second)
        return importance_weighted_bound(model, y, generator=first), likelihood

    longest_first = drawings(3).flip(0)
    bound, likelihood = both(longest_first)
    torch.testing.assert_close(bound[2], likelihood[2])  # of one step; only until it ends do all take the same noise
    longest_first[2, 1:] = 1e3
    torch.testing.assert_close(both(longest_first)[0], bound)
    for length in (1, 2, 3):  # and of fewer steps than there can be, without an end
        cut = drawings()[:, :length]
        cut[..., 3] = 0.0
        torch.testing.assert_close(*both(cut))
        if not ends:
            torch.testing.assert_close(*both(cut[..., :3]))


def test_a_constant_coordinate_keeps_its_unit() -> None:
    model, y = VRNN(steps=3, width=4, features=4, latent_size=2).double(), drawings(60)
    y[..., 1] = 7.0
    model.adapt(Batch(y))
    assert model.shift[1] == 7.0
    assert model.scale[1] == 1.0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match=r"truncate must be positive, not 0"):
        VRNN(truncate=0)
    for wrong in (drawings(steps=4), drawings()[..., :3], drawings()[0]):
        with pytest.raises(ModelError, match=r"up to 3, 4\) but got"):
            built().loss(Batch(wrong))


@pytest.mark.parametrize(("theirs", "site"), [({"latent_size": 3}, r"z\[0\]"), ({"ends": False}, r"y\[0\]")])
def test_a_teacher_of_other_shapes_is_refused_by_name(theirs: dict, site: str) -> None:
    """Where everything is given no site is declared before its value is used."""
    teacher, student = (VRNN(**{"steps": 3, "width": 4, "features": 4, "latent_size": 2, **o}) for o in (theirs, {}))
    with pytest.raises(SiteError, match=rf"site '{site}': its value has shape .* its distribution is over"):
        methods.local()(teacher, student, batch_size=8)


def test_means_are_no_drawings() -> None:
    """The mean of an end is a probability: taken for an end, it would leave every drawing its first point alone."""
    teacher, student = built(0), built(1)
    with pytest.raises(ModelError, match=r"means are no drawing; use draws, as with replay='sample'"):
        methods.own_bound(replay="mean")(teacher, student, batch_size=4)
    fixed = [built(seed, ends=False) for seed in range(2)]  # their means are drawings
    assert methods.own_bound(replay="mean")(*fixed, batch_size=4).total.isfinite()
