"""The recurrent model of drawings: its loss and its distillation against loops written by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from limbeck.core import methods
from limbeck.core.bounds import importance_weighted_bound
from limbeck.core.divergence import wasserstein2
from limbeck.core.loss import Batch
from limbeck.core.trace import Kind, Trace
from limbeck.errors import ModelError
from limbeck.models import VRNN, stroke_kl


def built(seed: int = 0, steps: int = 3, width: int = 5, **options: object) -> VRNN:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = VRNN(steps=steps, width=width, features=4, latent_size=2, **options).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2.0)
    model.shift.copy_(torch.tensor([1.0, -2.0]))
    model.scale.copy_(torch.tensor([3.0, 0.5]))
    return model


def drawings(rows: int = 6, steps: int = 3, seed: int = 0) -> Tensor:
    """Of one, two, three, ... points in turn."""
    y = torch.randn(rows, steps, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y[..., 2] = (y[..., 2] > 0).double()
    y[..., 3] = torch.nn.functional.one_hot(torch.arange(rows) % steps, steps)
    return y


# ------------------------------------------------------------------------------ the model again, a row and step a time


def normal(parameters: Tensor) -> Normal:
    mean, raw = parameters.chunk(2)
    return Normal(mean, torch.log1p(raw.exp()) / torch.tensor(2.0).double().log() + 1e-6)


def laws(model: VRNN, parameters: Tensor) -> tuple[MultivariateNormal, Bernoulli]:
    flags, mean, raw, lower = parameters[:2], parameters[2:4], parameters[4:6], parameters[6]
    diagonal = torch.log1p(raw.exp()) / torch.tensor(2.0).double().log() + model.floor
    tril = torch.stack([torch.stack([diagonal[0], torch.zeros_like(lower)]), torch.stack([lower, diagonal[1]])])
    offset = MultivariateNormal(model.shift + model.scale * mean, scale_tril=torch.diag(model.scale) @ tril)
    return offset, Bernoulli(logits=flags)


def cell(model: VRNN, y: Tensor, z: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    seen = torch.cat([(y[:2] - model.shift) / model.scale, y[2:]])
    net, inputs = model.lstm, torch.cat([model.embed_y(seen), model.embed_z(z)])
    gates = net.weight_ih_l0 @ inputs + net.bias_ih_l0 + net.weight_hh_l0 @ h + net.bias_hh_l0
    i, f, g, o = gates.chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def start(model: VRNN) -> tuple[Tensor, Tensor]:
    return torch.zeros(model.width).double(), torch.zeros(model.width).double()


def test_loss_is_the_formula() -> None:
    model, y = built(), drawings()
    generator = torch.Generator().manual_seed(7)
    noise = [torch.randn(6, 2, generator=generator, dtype=torch.float64) for _ in range(3)]
    miss, gap = torch.zeros(()).double(), torch.zeros(()).double()
    for row in range(6):
        h, c = start(model)
        for step in range(row % 3 + 1):
            seen = model.embed_y(torch.cat([(y[row, step, :2] - model.shift) / model.scale, y[row, step, 2:]]))
            evidence, prior = normal(model.encoder(torch.cat([seen, h]))), normal(model.prior(h))
            variance = 1 / (prior.scale**-2 + evidence.scale**-2)
            mean = variance * (prior.loc * prior.scale**-2 + evidence.loc * evidence.scale**-2)
            posterior = Normal(mean, variance.sqrt())
            z = posterior.loc + posterior.scale * noise[step][row]
            offset, flags = laws(model, model.decoder(torch.cat([model.embed_z(z), h])))
            miss = miss - offset.log_prob(y[row, step, :2]) - flags.log_prob(y[row, step, 2:]).sum()
            gap = gap + kl_divergence(posterior, prior).sum()
            h, c = cell(model, y[row, step], z, h, c)
    torch.manual_seed(7)
    loss = model.loss(Batch(y))
    assert loss.terms["y"].item() == pytest.approx(miss.item() / 6, abs=1e-10)
    assert loss.terms["z"].item() == pytest.approx(gap.item() / 6, abs=1e-10)
    torch.manual_seed(7)
    half = model.loss(Batch(y), progress=0.5 * model.warm_up)
    assert half.terms["z"].item() == pytest.approx(gap.item() / 12, abs=1e-10)


@pytest.mark.parametrize("method", ["surrogate", "local"])
def test_distillation_is_the_loop(method: str) -> None:
    """Alg. 1 along the teacher's run: shared noise (or values) of the latents, the teacher's samples fed to both."""
    teacher, student = built(0), built(1, width=4)
    objective = methods.surrogate(0.1) if method == "surrogate" else methods.local()
    rows = 7
    taught = teacher.trace(rows, generator=torch.Generator().manual_seed(3))
    loss = objective(teacher, student, batch_size=rows, generator=torch.Generator().manual_seed(3))
    target, latent = torch.zeros(()).double(), torch.zeros(()).double()
    masked = 0
    for row in range(rows):
        h, c = start(student)
        h_t, c_t = start(teacher)
        for step in range(len(taught.of_kind(Kind.TARGET))):
            y, site = taught[f"y[{step}]"].value[row], taught[f"z[{step}]"]
            p, q = normal(teacher.prior(h_t)), normal(student.prior(h))
            z_t = p.loc + p.scale * site.noise[row]
            torch.testing.assert_close(z_t, site.value[row])
            z = q.loc + q.scale * site.noise[row] if method == "surrogate" else z_t
            between = 0.1 * wasserstein2(p, q) / 2 if method == "surrogate" else kl_divergence(p, q)
            latent = latent + between.sum()
            both = [
                laws(model, model.decoder(torch.cat([model.embed_z(value), state])))
                for model, value, state in ((teacher, z_t, h_t), (student, z, h))
            ]
            target = target + kl_divergence(both[0][0], both[1][0]) + kl_divergence(both[0][1], both[1][1]).sum()
            h_t, c_t = cell(teacher, y, z_t, h_t, c_t)
            h, c = cell(student, y, z, h, c)
            if y[3]:
                masked += 2 - step
                break
    assert masked > 0
    assert loss.terms["y[*]"].item() == pytest.approx(target.item() / rows, abs=1e-10)
    assert loss.terms["z[*]"].item() == pytest.approx(latent.item() / rows, abs=1e-10)


# ---------------------------------------------------------------------------------------------------- three ways to run


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


# ------------------------------------------------------------------------------------------------------------- masks


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


def test_importance_weighted_bound_rises() -> None:
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


def test_refusals() -> None:
    with pytest.raises(ModelError, match=r"truncate must be positive, not 0"):
        VRNN(truncate=0)
    for wrong in (drawings(steps=4), drawings()[..., :3], drawings()[0]):
        with pytest.raises(ModelError, match=r"up to 3, 4\) but got"):
            built().loss(Batch(wrong))
