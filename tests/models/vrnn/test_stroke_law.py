"""The law of a step of a drawing against torch's own distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, MixtureSameFamily, MultivariateNormal, kl_divergence

from limbeck.core.divergence import kl, kl_monte_carlo
from limbeck.core.reparam import Law, law, noise_like, push
from limbeck.core.stacking import stack, stacking_key
from limbeck.errors import DivergenceError
from limbeck.models import StrokeLaw, stroke_kl
from limbeck.models.vrnn.stroke_law import stroke_parameters

SHIFT, SCALE, FLOOR = torch.tensor([3.0, -1.0]).double(), torch.tensor([2.0, 5.0]).double(), 0.1


def made(components: int = 1, ends: bool = True, rows: int = 6, seed: int = 0, **changes: Tensor) -> StrokeLaw:
    generator = torch.Generator().manual_seed(seed)
    parameters = torch.randn(rows, stroke_parameters(components, ends), generator=generator, dtype=torch.float64)
    return StrokeLaw(parameters, components, ends, changes.get("shift", SHIFT), changes.get("scale", SCALE), FLOOR)


def offsets(step: StrokeLaw) -> MixtureSameFamily:
    """The same mixture by torch, from the parameters as they are documented."""
    start = 1 + step.ends
    several = step.components if step.components > 1 else 0
    weights = step.parameters[:, start : start + several] if several else torch.zeros(len(step.parameters), 1).double()
    raw = step.parameters[:, start + several :].reshape(-1, step.components, 5)
    diagonal = torch.nn.functional.softplus(raw[..., 2:4]) / math.log(2.0) + FLOOR
    tril = torch.diag_embed(diagonal)
    tril[..., 1, 0] = raw[..., 4]
    tril = step.scale[:, None] * tril
    mean = step.shift + step.scale * raw[..., :2]
    return MixtureSameFamily(Categorical(logits=weights), MultivariateNormal(mean, scale_tril=tril))


@pytest.mark.parametrize(("components", "ends"), [(1, True), (1, False), (3, True)])
def test_density_and_mean(components: int, ends: bool) -> None:
    step = made(components, ends)
    value = step.sample()
    flags = Bernoulli(logits=step.parameters[:, : 1 + ends])
    expected = offsets(step).log_prob(value[:, :2]) + flags.log_prob(value[:, 2:]).sum(1)
    torch.testing.assert_close(step.log_prob(value), expected)
    torch.testing.assert_close(step.mean, torch.cat([offsets(step).mean, flags.probs], 1))


@pytest.mark.parametrize("components", [1, 3])
def test_samples_have_the_law(components: int) -> None:
    torch.manual_seed(0)
    step, count = made(components, rows=2), 20_000
    drawn = step.sample((count,))
    assert drawn.shape == (count, 2, 4)
    truth = offsets(step)
    error = 5.0 / math.sqrt(count)  # five standard errors
    assert ((drawn[..., :2].mean(0) - truth.mean).abs() < error * truth.stddev).all()
    torch.testing.assert_close(drawn[..., :2].var(0), truth.variance, rtol=0.08, atol=0.0)
    probability = torch.sigmoid(step.flags)
    assert ((drawn[..., 2:].mean(0) - probability).abs() < 0.5 * error).all()
    # The covariance, too: the cross-entropy of the samples is the entropy only for the right law.
    other = -truth.sample((count,)).flatten(0, 1).view(count, 2, 2)
    own = truth.log_prob(drawn[..., :2])
    again = truth.log_prob(-other)
    assert ((own.mean(0) - again.mean(0)).abs() < 5 * own.std(0) * math.sqrt(2 / count)).all()


@pytest.mark.parametrize("components", [1, 3])
def test_replay_and_gradient(components: int) -> None:
    step = made(components)
    noise = noise_like(step, torch.Generator().manual_seed(1))
    assert law(step) is Law.NORMAL
    assert torch.equal(push(step, noise), push(step, noise))
    if components == 1:  # noise of the shape of the value: teacher and student can share it
        assert noise.shape == (6, 4)
    parameters = step.parameters.clone().requires_grad_()
    push(step._of(parameters), noise)[:, :2].sum().backward()
    assert (parameters.grad[:, -5 * components :] != 0).any()
    assert (parameters.grad[:, :2] == 0).all()


def test_closed_form_kl() -> None:
    p = made(seed=1)
    q = made(seed=2, shift=torch.tensor([0.0, 1.0]).double(), scale=torch.tensor([1.0, 9.0]).double())
    gaussians = [MultivariateNormal(o.component_distribution.mean[:, 0], scale_tril=o.component_distribution.scale_tril[
        :, 0]) for o in (offsets(p), offsets(q))]  # fmt: skip
    flags = kl_divergence(Bernoulli(logits=p.flags), Bernoulli(logits=q.flags)).sum(1)
    torch.testing.assert_close(kl(p, q), kl_divergence(*gaussians) + flags)
    torch.testing.assert_close(stroke_kl(p, q), kl(p, q))
    assert kl(p, p).abs().max() < 1e-14


def test_kl_of_mixtures_is_an_unbiased_estimate() -> None:
    torch.manual_seed(0)
    p, q = made(3, rows=2, seed=1), made(2, rows=2, seed=2)
    samples = 40_000
    value = push(p._of(p.parameters.repeat(samples, 1)), noise_like(p._of(p.parameters.repeat(samples, 1))))
    ratio = offsets(p).log_prob(value[:, :2].view(samples, 2, 2)) - offsets(q).log_prob(value[:, :2].view(-1, 2, 2))
    flags = kl_divergence(Bernoulli(logits=p.flags), Bernoulli(logits=q.flags)).sum(1)
    estimate = stroke_kl(p, q, samples=4000)
    assert ((estimate - ratio.mean(0) - flags).abs() < 5 * ratio.std(0) * math.sqrt(1 / 4000 + 1 / samples)).all()
    assert torch.allclose(stroke_kl(p, p), torch.zeros(2).double())
    assert kl_monte_carlo(p, q).shape == (2,)


def test_stacking() -> None:
    laws = [made(seed=seed) for seed in range(3)]
    assert len({stacking_key(step) for step in laws}) == 1
    assert stacking_key(laws[0]) != stacking_key(made(2))
    value = torch.cat([step.sample() for step in laws])
    together = stack(laws)
    torch.testing.assert_close(
        together.log_prob(value), torch.cat([step.log_prob(v) for step, v in zip(laws, value.split(6), strict=True)])
    )


def test_refusals() -> None:
    with pytest.raises(DivergenceError, match=r"no closed form here: use limbeck.divergence.kl_monte_carlo"):
        kl(made(3), made(3))
    with pytest.raises(DivergenceError, match=r"not StrokeLaw and Bernoulli"):
        stroke_kl(made(), Bernoulli(torch.zeros(6, 4)))
    with pytest.raises(DivergenceError, match=r"same steps and ends"):
        stroke_kl(made(), made(ends=False))
    with pytest.raises(DivergenceError, match=r"at least one sample"):
        stroke_kl(made(2), made(2), samples=0)
