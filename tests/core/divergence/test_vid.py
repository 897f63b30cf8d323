"""Variational information distillation: densities against formulas, and information that is known."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal, StudentT
from torch.nn import functional as F

from limbeck.core.delta import Delta
from limbeck.core.divergence.observation import StudentTObservation, inverse_softplus
from limbeck.divergence import VID
from tests.core.divergence.observed_features import CLOSE, LAWS, made
from tests.features import normal


def by_hand(divergence: VID, own: Tensor) -> Tensor:
    """Three 1x1 convolutions with batch normalisation and ReLU between them, in training."""
    layers = list(divergence.network.pointwise)
    x = own
    for index in (0, 3):
        x = F.conv2d(x, layers[index].weight)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        shape = (1, -1, 1, 1)
        x = (x - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()
        norm = layers[index + 1]
        x = (x * norm.weight.view(shape) + norm.bias.view(shape)).clamp_min(0.0)
    return F.conv2d(x, layers[6].weight, layers[6].bias)


def log_density(divergence: VID, theirs: Tensor, predicted: Tensor) -> Tensor:
    """Of each element, by torch's own distributions; predicted of shape (batch, outputs x channels, h, w)."""
    model, shape = divergence.observation, (1, -1, 1, 1)
    if divergence.law == "gaussian":
        return Normal(predicted, model.variances.sqrt().view(shape)).log_prob(theirs)
    if divergence.law == "student-t":
        scale = (model.variances * (model.degrees - 2.0) / model.degrees).sqrt()
        return StudentT(model.degrees.view(shape), predicted, scale.view(shape)).log_prob(theirs)
    means = predicted.unflatten(1, (3, -1)).movedim(1, -1)
    weights = model.weights.T[:, None, None].expand(means.shape)
    scales = model.component_variances.sqrt().T[:, None, None]
    return MixtureSameFamily(Categorical(logits=weights), Normal(means, scales)).log_prob(theirs)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("normalize", [True, False])
def test_it_is_the_negative_log_likelihood_of_maps(law: str, normalize: bool) -> None:
    divergence, theirs, own = made(VID(law=law, normalize=normalize), (5, 4, 3), (2, 4, 3))
    expected = -log_density(divergence, theirs, by_hand(divergence, own)).sum((1, 2, 3))
    found = divergence(Delta(theirs), Delta(own))
    torch.testing.assert_close(found, expected / (60 if normalize else 1), **CLOSE)


def test_the_gaussian_is_eq_5_with_its_constant() -> None:
    divergence, theirs, own = made(VID(layers=1, normalize=False), (5, 4, 3), (2, 4, 3))
    layer = divergence.network.pointwise[0]
    predicted = F.conv2d(own, layer.weight, layer.bias)
    expected = torch.zeros(4, dtype=torch.float64)
    for c in range(5):
        variance = math.log(1.0 + math.exp(divergence.observation.alpha[0, c].item())) + 1e-5
        errors = (theirs[:, c] - predicted[:, c]) ** 2
        expected += (0.5 * math.log(2.0 * math.pi * variance) + errors / (2.0 * variance)).sum((1, 2))
    torch.testing.assert_close(divergence(Delta(theirs), Delta(own)), expected, **CLOSE)


def test_logits_are_predicted_from_penultimate_features() -> None:
    divergence, theirs, own = made(VID(bias=False), (4,), (6,))
    weight = divergence.network.pointwise[0].weight[:, :, 0, 0]
    assert [name for name, _ in divergence.network.named_parameters()] == ["pointwise.0.weight"]
    expected = -Normal(own @ weight.T, divergence.variances.sqrt()).log_prob(theirs).mean(1)
    torch.testing.assert_close(divergence(Delta(theirs), Delta(own)), expected, **CLOSE)


def test_it_starts_from_the_papers_variance() -> None:
    for law in LAWS:
        theirs, own = normal(((3,), (2,)), 0, 2)
        divergence = VID(law=law).fitted(Delta(theirs), Delta(own))
        torch.testing.assert_close(divergence.variances, torch.full((3,), 5.0, dtype=torch.float64))
    assert F.softplus(torch.tensor(inverse_softplus(1e-3))).item() == pytest.approx(1e-3, rel=1e-5)


def test_extreme_variances_stay_finite() -> None:
    divergence, theirs, own = made(VID(), (3,), (2,))
    for extreme in (-1e4, 1e4):
        torch.nn.init.constant_(divergence.observation.alpha, extreme)
        rows = divergence(Delta(theirs), Delta(own))
        assert rows.isfinite().all()
        assert torch.autograd.grad(rows.sum(), divergence.observation.alpha)[0].isfinite().all()
        assert (divergence.variances >= 1e-5).all()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("seed", [0, 1])
def test_densities_integrate_to_one(law: str, seed: int) -> None:
    divergence, _, own = made(VID(law=law), (1,), (2,), batch=1, seed=seed)

    def density(value: float) -> float:
        theirs = Delta(torch.tensor([[value]], dtype=torch.float64))
        return divergence.log_likelihood(theirs, Delta(own)).exp().item()

    assert quad(density, -math.inf, math.inf)[0] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("law", LAWS)
def test_the_variance_is_the_laws(law: str) -> None:
    divergence, _, own = made(VID(law=law), (1,), (2,), batch=1)
    center = divergence.network(own)[0, 0]
    if law == "mixture":
        with torch.no_grad():  # one mean, so that there is no variance between the means
            for parameter in divergence.network.parameters():
                parameter.zero_()
        center = divergence.network(own)[0, 0]

    def weighted(value: float) -> float:
        theirs = Delta(torch.tensor([[value]], dtype=torch.float64))
        return (value - center[0].item()) ** 2 * divergence.log_likelihood(theirs, Delta(own)).exp().item()

    assert quad(weighted, -math.inf, math.inf)[0] == pytest.approx(divergence.variances.item(), rel=1e-4)


def test_the_degrees_of_freedom_begin_where_they_should_and_stay_above_two() -> None:
    law = StudentTObservation(3, minimum_variance=0.5, initial_degrees=6.0)
    torch.testing.assert_close(law.degrees, torch.full((3,), 6.0))
    with torch.no_grad():
        law.beta.fill_(-100.0)
    torch.testing.assert_close(law.degrees, torch.full((3,), 2.5))


def test_the_map_of_likelihoods_adds_up_to_the_loss_and_changes_nothing() -> None:
    divergence, theirs, own = made(VID(), (5, 4, 3), (2, 4, 3))
    divergence(Delta(theirs), Delta(own))
    state = {name: value.clone() for name, value in divergence.state_dict().items()}
    found = divergence.log_likelihood(Delta(theirs), Delta(own))
    assert found.shape == (4, 4, 3)
    assert not found.requires_grad
    assert all(torch.equal(value, state[name]) for name, value in divergence.state_dict().items())
    assert divergence.network.training
    rows = divergence.eval()(Delta(theirs), Delta(own))
    torch.testing.assert_close(-found.sum((1, 2)) / 60, rows.detach(), **CLOSE)


def test_half_precision_features_are_scored_in_single() -> None:
    divergence, theirs, own = made(VID(layers=1), (5, 4, 3), (2, 4, 3))
    divergence.float()
    rows = divergence(Delta((300.0 * theirs).half()), Delta(own.float()))
    assert rows.dtype is torch.float32
    assert rows.isfinite().all()


def linear_gaussian(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """t = 2 s + noise of deviation 0.5, and other factors; each channel apart."""
    own = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    return own * torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64) + 0.5 * noise, own


def test_information_of_a_linear_gaussian_pair_is_the_exact_one() -> None:
    """I(t; s) = sum over channels of log(1 + a^2 / sigma^2) / 2, in nats, where the channels are independent."""
    generator = torch.Generator().manual_seed(0)
    theirs, own = linear_gaussian(40_000, generator)
    divergence = VID().fitted(Delta(theirs), Delta(own))
    with torch.no_grad():
        layer = divergence.network.pointwise[0]
        layer.weight.copy_(torch.diag(torch.tensor([2.0, 1.0, 0.0]))[:, :, None, None])
        layer.bias.zero_()
        divergence.observation.alpha.fill_(inverse_softplus(0.25 - 1e-5))
    divergence(Delta(theirs), Delta(own))
    exact = 0.5 * (math.log(1 + 4 / 0.25) + math.log(1 + 1 / 0.25))
    # Each of 40,000 rows adds a variance of order 1: four standard errors.
    assert divergence.observed["information"].item() == pytest.approx(exact, abs=4 * math.sqrt(3 / 40_000))


def test_information_is_learned_and_added_over_positions() -> None:
    generator = torch.Generator().manual_seed(0)
    divergence = (
        VID(layers=1, positions=2).fitted(Delta(torch.zeros(2, 3, 2, 2)), Delta(torch.zeros(2, 3, 2, 2))).double()
    )
    optimizer = torch.optim.Adam(divergence.parameters(), 0.05)
    found = []
    for step in range(600):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * 0.1 ** (step / 600)
        theirs, own = (value.view(64, 2, 2, 3).movedim(-1, 1) for value in linear_gaussian(256, generator))
        loss = divergence(Delta(theirs), Delta(own)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(divergence.observed["information"].item())
    exact = 4 * 0.5 * (math.log(1 + 4 / 0.25) + math.log(1 + 1 / 0.25))
    assert found[0] < 0.0
    # The mean of the last 100 steps, each of 128 elements a channel.
    assert sum(found[-100:]) / 100 == pytest.approx(exact, rel=0.05)
    torch.testing.assert_close(divergence.variances, torch.full((3,), 0.25, dtype=torch.float64), rtol=0.1, atol=0.0)


def test_a_perfect_student_leaves_no_variance() -> None:
    torch.manual_seed(0)
    turn = torch.randn(3, 4)
    divergence = VID().fitted(Delta(torch.zeros(2, 4)), Delta(torch.zeros(2, 3)))
    optimizer = torch.optim.Adam(divergence.parameters(), 0.05)
    for _ in range(500):
        own = torch.randn(64, 3)
        optimizer.zero_grad()
        divergence(Delta(own @ turn), Delta(own)).mean().backward()
        optimizer.step()
    assert divergence.variances.max() < 0.01
    assert divergence.observed["information"] > 4 * 0.5 * math.log(1 / 0.01)


@pytest.mark.parametrize("law", ["student-t", "mixture"])
def test_other_laws_fit_their_own_noise_better(law: str) -> None:
    """Noise with heavy tails, and noise of two signs: the law that is made for it has the smaller loss."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    losses = {}
    for name in ("gaussian", law):
        divergence = VID(law=name).fitted(Delta(torch.zeros(2, 2)), Delta(torch.zeros(2, 2)))
        optimizer = torch.optim.Adam(divergence.parameters(), 0.05)
        found = []
        for _ in range(300):
            own = torch.randn(256, 2, generator=generator)
            if law == "student-t":
                noise = StudentT(torch.tensor(3.0)).sample((256, 2))
            else:
                noise = 3.0 * (2.0 * torch.bernoulli(torch.full((256, 2), 0.5), generator=generator) - 1.0)
                noise = noise + 0.5 * torch.randn(256, 2, generator=generator)
            loss = divergence(Delta(own + noise), Delta(own)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        losses[name] = sum(found[-50:]) / 50
    assert losses[law] < losses["gaussian"] - 0.05
