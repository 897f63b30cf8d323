"""The ladder VAE against its published sizes and against its loss written out from densities."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from limbeck.core.loss import Batch
from limbeck.core.reconstruction import reconstruct
from limbeck.core.trace import Kind
from limbeck.errors import ModelError
from limbeck.models import LadderVAE
from limbeck.models.gaussians import gaussian, precision_weighted
from tests.zoo import BY_NAME, ladder, pictures

PUBLISHED = {4: (10_104, 6_056), 8: (30_416, 16_432), 16: (101_664, 50_144), 32: (366_656, 169_408),
             64: (1_386_624, 615_296), 128: (5_386_496, 2_336_512)}  # fmt: skip


@pytest.mark.parametrize("width", PUBLISHED)
def test_published_sizes(width: int) -> None:
    """Ours are smaller by the output's scale map, which the published head has and does not use."""
    with torch.device("meta"):
        model = LadderVAE(width=width)
    every = sum(p.numel() for p in model.parameters())
    generative = sum(p.numel() for p in model.generative_parameters())
    assert (every + 3 * width, generative + 3 * width) == PUBLISHED[width]
    assert every - generative == sum(p.numel() for p in model.inference_parameters())


@pytest.mark.parametrize(
    ("size", "levels", "halvings", "sizes"),
    [
        (8, 3, 1, (8, 4, 2, 1)),
        (16, 4, 1, (16, 8, 4, 2, 1)),
        (28, 5, 1, (28, 14, 7, 4, 2, 1)),
        (32, 5, 1, (32, 16, 8, 4, 2, 1)),
        (64, 5, 2, (64, 32, 16, 8, 4, 1)),
        (16, 2, 2, (16, 8, 2)),
        (16, 3, 2, (16, 8, 4, 1)),
        (32, 2, 3, (32, 16, 2)),
        (28, 3, 2, (28, 14, 7, 2)),
        (8, 1, 1, (8, 4)),
        (8, 1, 3, (8, 1)),
    ],
)
def test_resolutions(size: int, levels: int, halvings: int, sizes: tuple[int, ...]) -> None:
    model = LadderVAE(image_size=size, image_channels=1, levels=levels, width=2, latent_channels=3,
                      top_halvings=halvings).eval()  # fmt: skip
    assert model.sizes == sizes
    trace = model.trace(2)
    assert list(trace) == [f"z{level}" for level in range(levels, 0, -1)] + ["y"]
    for level in range(1, levels + 1):
        assert trace[f"z{level}"].value.shape == (2, 3, sizes[level], sizes[level])
    y = trace["y"].value
    assert y.shape == (2, 1, size, size)
    posterior = model.trace_inference(y)
    assert [s.name for s in posterior.of_kind(Kind.LATENT)] == [f"z{level}" for level in range(levels, 0, -1)]
    for name, site in posterior.items():
        assert site.value.shape == trace[name].value.shape
    assert reconstruct(model, y).shape == y.shape
    assert torch.isfinite(model.loss(Batch(y)).total)


@pytest.mark.parametrize("colours", [1, 3])
def test_the_wrong_image(colours: int) -> None:
    model = LadderVAE(image_size=8, image_channels=colours, levels=2, width=2, latent_channels=2)
    for shape in ((2, colours, 16, 16), (2, 4 - colours, 8, 8), (2, 8, 8)):
        y = torch.zeros(shape)
        for call in (lambda y=y: model.loss(Batch(y)), lambda y=y: model.trace_inference(y),
                     lambda y=y: reconstruct(model, y)):  # fmt: skip
            with pytest.raises(ModelError, match=rf"\({colours}, 8, 8\).*image_size"):
                call()


@pytest.mark.parametrize("name", ["image_size", "image_channels", "levels", "width", "latent_channels", "top_halvings",
                                  "output_scale"])  # fmt: skip
def test_sizes_are_positive(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} must be positive"):
        LadderVAE(**{"image_size": 8, "levels": 2, "width": 2, name: 0})


def test_more_levels_than_pixels() -> None:
    with pytest.raises(ModelError, match=r"5 levels halve 5 times, but 8 pixels .* only 3"):
        LadderVAE(image_size=8, levels=5, width=2)


# ------------------------------------------------------------------------------------------------------------- the loss


def double() -> LadderVAE:
    return BY_NAME["ladder"].pair(dtype=torch.float64)[0]


def test_the_loss_is_the_evidence_lower_bound() -> None:
    """Rebuilt from the two programs alone: run infer, feed its values to generate, and compare site by site."""
    model, y = double(), pictures(5).y.double()
    torch.manual_seed(0)
    loss = model.loss(Batch(y))
    torch.manual_seed(0)
    posterior = model.trace_inference(y)
    prior = model.trace(values={**posterior.values, "y": y})
    expected = {"y": -prior.log_prob(Kind.TARGET).mean()}
    for site in posterior.of_kind(Kind.LATENT):
        rows = kl_divergence(site.distribution, prior[site.name].distribution)
        expected[site.name] = rows.flatten(1).sum(1).mean()
    assert loss.terms.keys() == expected.keys()
    for name, term in expected.items():
        assert loss.terms[name].item() == pytest.approx(term.item(), rel=1e-10), name
    assert loss.total.item() == pytest.approx(sum(expected.values()).item(), rel=1e-10)
    assert all(loss.terms[f"z{level}"] > 0 for level in (1, 2, 3))


def test_the_loss_is_a_monte_carlo_estimate_of_the_same_bound() -> None:
    model, rows = double(), 8_000
    y = pictures(1).y.double().expand(rows, -1, -1, -1)
    with torch.no_grad():
        torch.manual_seed(0)
        losses = torch.stack([model.loss(Batch(y[:500])).total for _ in range(8)])
        torch.manual_seed(1)
        posterior = model.trace_inference(y)
        bound = model.trace(values={**posterior.values, "y": y}).log_prob() - posterior.log_prob(Kind.LATENT)
    error = math.hypot(bound.std().item() / math.sqrt(rows), losses.std().item() / math.sqrt(8))
    assert error < 0.01 * abs(losses.mean().item())
    assert abs(losses.mean().item() + bound.mean().item()) < 5 * error


def test_warm_up() -> None:
    model, batch = ladder(4).eval(), pictures(3)
    assert model.warm_up == 0.5

    def terms(progress: float) -> dict[str, float]:
        torch.manual_seed(0)
        return {name: term.item() for name, term in model.loss(batch, progress=progress).terms.items()}

    full = terms(1.0)
    for progress, weight in ((0.0, 0.0), (0.125, 0.25), (0.25, 0.5), (0.5, 1.0), (0.7, 1.0)):
        now = terms(progress)
        assert now["y"] == full["y"]
        for level in (1, 2, 3):
            assert now[f"z{level}"] == pytest.approx(weight * full[f"z{level}"], rel=1e-6, abs=1e-12)
    model.warm_up = 0.0
    assert terms(0.0) == full


def test_the_loss_does_not_depend_on_the_size_of_the_batch() -> None:
    model, y = double(), pictures(1).y.double()
    torch.manual_seed(0)
    one = model.loss(Batch(y.expand(4000, -1, -1, -1))).total.item()
    torch.manual_seed(1)
    other = model.loss(Batch(y.expand(1000, -1, -1, -1))).total.item()
    assert one == pytest.approx(other, rel=0.02)


def test_output_scale_is_a_weight_of_beta() -> None:
    """KL weight 1 with scale sqrt(beta / 2) is squared error / beta + KL, up to a constant."""
    beta = 0.1
    model = LadderVAE(8, 1, 3, 4, 2, output_scale=math.sqrt(beta / 2)).double().eval()
    y = pictures(4).y.double()
    torch.manual_seed(0)
    term = model.loss(Batch(y)).terms["y"].item()
    torch.manual_seed(0)
    z1 = model.trace_inference(y)["z1"].value
    squared = (y - model.top_down[0](z1)).square().flatten(1).sum(1).mean().item()
    assert term == pytest.approx(squared / beta + 64 * 0.5 * math.log(math.pi * beta), rel=1e-10)


# -------------------------------------------------------------------------------------------------------- the posterior


def test_precision_weighting_is_the_normalised_product_of_densities() -> None:
    torch.manual_seed(0)
    first = Normal(torch.randn(6, dtype=torch.float64), torch.rand(6, dtype=torch.float64) + 0.2)
    second = Normal(torch.randn(6, dtype=torch.float64), torch.rand(6, dtype=torch.float64) + 0.2)
    product = precision_weighted(first, second)
    grid = torch.linspace(-12, 12, 40_001, dtype=torch.float64)[:, None]
    density = (first.log_prob(grid) + second.log_prob(grid)).exp()
    density = density / torch.trapezoid(density, grid, dim=0)
    torch.testing.assert_close(product.log_prob(grid).exp(), density, atol=1e-9, rtol=1e-7)


def test_the_posterior_is_prior_times_evidence() -> None:
    model, y = double(), pictures(2).y.double()
    trace = model.trace_inference(y)
    hidden, evidence = y, []
    for network in model.bottom_up:
        hidden, parameters = network(hidden)
        evidence.append(gaussian(parameters))
    top = trace["z3"].distribution
    torch.testing.assert_close(top.loc, evidence[2].loc)
    torch.testing.assert_close(top.scale, evidence[2].scale)
    for level in (2, 1):
        prior = gaussian(model.top_down[level](trace[f"z{level + 1}"].value))
        own, below = trace[f"z{level}"].distribution, evidence[level - 1]
        torch.testing.assert_close(own.scale**-2, prior.scale**-2 + below.scale**-2)
        torch.testing.assert_close(own.loc / own.scale**2, prior.loc / prior.scale**2 + below.loc / below.scale**2)
        assert (own.scale < prior.scale).all()


def test_scale_is_softplus_over_log_two() -> None:
    raw = torch.tensor([-60.0, 0.0, 3.0, 100.0], dtype=torch.float64)
    law = gaussian(torch.cat([torch.arange(4.0, dtype=torch.float64), raw]).reshape(1, 8, 1, 1))
    torch.testing.assert_close(law.loc.flatten(), torch.arange(4.0, dtype=torch.float64))
    expected = [1e-6, 1.0 + 1e-6, math.log1p(math.exp(3.0)) / math.log(2) + 1e-6, 100.0 / math.log(2) + 1e-6]
    torch.testing.assert_close(law.scale.flatten(), torch.tensor(expected, dtype=torch.float64))


def test_reconstruction_is_the_mean_at_the_posterior_means() -> None:
    model, y = double(), pictures(2).y.double()
    noise = {name: torch.zeros_like(e) for name, e in model.trace_inference(y).noise.items()}
    z1 = model.trace_inference(y, noise=noise)["z1"].value
    with torch.no_grad():
        torch.testing.assert_close(reconstruct(model, y), model.top_down[0](z1))
    assert not reconstruct(model, y).requires_grad


def test_each_prior_sees_only_the_latent_above_it() -> None:
    model = double()
    trace = model.trace(4)
    others = {name: value for name, value in model.trace(4).values.items() if name not in ("z2", "y")}
    again = model.trace(values={**others, "z2": trace["z2"].value})
    assert torch.equal(again["z1"].distribution.loc, trace["z1"].distribution.loc)
    assert not torch.equal(again["z2"].distribution.loc, trace["z2"].distribution.loc)


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    model, batch = ladder(4), pictures(16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.total.item())
    assert sum(losses[-5:]) / 5 < 0.8 * sum(losses[:5]) / 5


def test_a_learned_output_scale_starts_where_a_fixed_one_is_and_becomes_the_error_that_is_left() -> None:
    sizes = {"image_size": 8, "image_channels": 1, "levels": 2, "latent_channels": 2, "width": 3, "output_scale": 0.5}
    models = []
    for learned in (False, True):
        torch.manual_seed(0)
        models.append(LadderVAE(**sizes, learned_scale=learned).double().eval())
    fixed, learned = models
    assert learned.trace(3, noise=fixed.trace(3).noise)["y"].distribution.scale.unique().item() == pytest.approx(0.5)
    y = torch.rand(16, 1, 8, 8, dtype=torch.float64)
    z = torch.randn(16, 2, 4, 4, dtype=torch.float64)
    optimizer = torch.optim.Adam([learned.log_factor], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        law = learned._likelihood(z, None)
        (-law.log_prob(y).mean()).backward()
        optimizer.step()
    left = (law.mean - y).square().mean().sqrt().item()
    assert learned._likelihood(z, None).scale.unique().item() == pytest.approx(left, rel=1e-3)
    assert sum(p.numel() for p in learned.parameters()) == sum(p.numel() for p in fixed.parameters()) + 1
