"""Variational information distillation: densities, mean networks, what is looked at, and the information it reports."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal, StudentT
from torch.nn import functional as F

from limbeck.core.delta import Delta
from limbeck.core.divergence import vid as vid_module
from limbeck.core.divergence.mean_network import Grid, MeanNetwork
from limbeck.core.divergence.moments import Moments
from limbeck.core.divergence.observation import inverse_softplus
from limbeck.divergence import VID
from tests.features import normal

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
LAWS = ["gaussian", "student-t", "mixture"]


def made(template: VID, *shapes: tuple[int, ...], batch: int = 4, seed: int = 0) -> tuple[VID, Tensor, Tensor]:
    """Sized, with variances and weights that differ between channels."""
    theirs, own = normal(shapes, seed, batch)
    torch.manual_seed(seed)
    divergence = template.fitted(Delta(theirs), Delta(own))
    with torch.no_grad():
        for parameter in divergence.undecayed():
            parameter.add_(torch.rand_like(parameter))
    return divergence, theirs, own


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
def test_negative_log_likelihood_of_maps(law: str, normalize: bool) -> None:
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


def test_logits_from_penultimate_features() -> None:
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


def test_the_map_of_likelihoods() -> None:
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


# ------------------------------------------------------------------------------------------------------ mean networks


SIZES = [
    ((3, 8, 8), (5, 8, 8)), ((3, 16, 16), (5, 8, 8)), ((3, 4, 4), (5, 8, 8)), ((3, 9, 6), (5, 3, 3)),
    ((3, 2, 3), (5, 6, 9)), ((3, 8, 4), (5, 4, 8)), ((3, 7, 7), (5, 5, 5)), ((3, 5, 5), (5, 7, 7)),
    ((3,), (5, 1, 1)), ((3,), (5, 2, 2)), ((3,), (5, 4, 4)), ((3,), (5, 7, 7)), ((3,), (5, 8, 8)), ((3,), (5, 28, 28)),
    ((3,), (5, 32, 32)), ((3,), (5, 12, 6)), ((3,), (5, 11, 11)), ((3,), (5, 17, 3)), ((3, 2, 2), (5,)), ((3,), (5,)),
    ((3, 12), (5, 12)), ((3, 12), (5, 4)), ((3, 5), (5, 12)), ((3,), (5, 16)),
]  # fmt: skip


@pytest.mark.parametrize(("student", "teacher"), SIZES)
@pytest.mark.parametrize("layers", [1, 3])
def test_sizes_are_met(student: tuple[int, ...], teacher: tuple[int, ...], layers: int) -> None:
    network = MeanNetwork(student, teacher, outputs=2, layers=layers)
    assert network(torch.randn(2, *student)).shape == (2, math.prod(teacher[1:]), 10)


def kernels(network: MeanNetwork) -> list[tuple[int, int, int]]:
    """Kernel, stride and padding of each transposed convolution."""
    return [
        (layer.kernel_size[0], layer.stride[0], layer.padding[0])
        for layer in network.modules()
        if isinstance(layer, torch.nn.ConvTranspose2d)
    ]


def test_a_vector_grows_into_a_map_as_in_the_paper() -> None:
    network = MeanNetwork((6,), (5, 16, 16), layers=3)
    assert kernels(network) == [(4, 1, 0), (4, 2, 1), (4, 2, 1)]
    assert not any(isinstance(module, torch.nn.ReLU | torch.nn.BatchNorm2d) for module in network.modules())
    (own,) = normal(((6,),), 0, 3)
    network.double()
    x = own[:, :, None, None]
    for layer, (_, stride, padding) in zip(network.spatial[1:], kernels(network), strict=True):
        x = F.conv_transpose2d(x, layer.weight, layer.bias, stride=stride, padding=padding)
    torch.testing.assert_close(network(own), x.flatten(2).mT, **CLOSE)
    assert kernels(MeanNetwork((6,), (5, 28, 28))) == [(7, 1, 0), (4, 2, 1), (4, 2, 1)]
    assert kernels(MeanNetwork((6,), (5, 2, 2))) == [(2, 1, 0)]
    assert kernels(MeanNetwork((6,), (5, 11, 11))) == [(4, 1, 0), (4, 2, 1), (4, 2, 1)]


def test_hidden_widths() -> None:
    def widths(**settings) -> list[int]:
        network = MeanNetwork((3, 4, 4), (8, 4, 4), **settings)
        return [layer.out_channels for layer in network.pointwise if isinstance(layer, torch.nn.Conv2d)]

    assert widths(layers=3, hidden=2.0) == [16, 16, 8]
    assert widths(layers=2, hidden=0.5) == [4, 8]
    assert widths(layers=1) == [8]


# ----------------------------------------------------------------------------------------------------------- positions


@pytest.mark.parametrize(("size", "positions"), [((8, 8), 64), ((8, 8), 16), ((9, 5), 7), ((12,), 5), ((3, 3), 1)])
def test_every_position_belongs_to_one_grid(size: tuple[int, ...], positions: int) -> None:
    torch.manual_seed(0)
    feature = torch.arange(math.prod(size), dtype=torch.float64).view(1, 1, *size)
    grids = {}
    for _ in range(2000):
        grid = Grid.drawn(size, positions)
        grids[tuple(place.start for place in grid.places)] = grid.of(feature).flatten().tolist()
    assert len(grids) == grid.share >= math.prod(size) / positions
    assert grid.share == 1 or math.prod(size) / grid.share > positions / 2
    assert sorted(itertools.chain(*grids.values())) == feature.flatten().tolist()


def test_looking_at_some_positions_is_unbiased(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over all places of the grid is what all positions give, gradient included."""
    divergence, theirs, own = made(VID(layers=1, positions=None), (5, 7, 6), (2, 7, 6))
    own.requires_grad_()
    whole = divergence(Delta(theirs), Delta(own))
    expected = torch.autograd.grad(whole.sum(), own)[0]
    rows, gradients = [], []
    for first in range(3):
        for second in range(2):
            grid = Grid((3, 2), (first, second))
            monkeypatch.setattr(vid_module.Grid, "drawn", lambda *_, grid=grid: grid)
            rows.append(divergence(Delta(theirs), Delta(own)))
            gradients.append(torch.autograd.grad(rows[-1].sum(), own)[0])
    torch.testing.assert_close(torch.stack(rows).mean(0), whole, **CLOSE)
    torch.testing.assert_close(torch.stack(gradients).mean(0), expected, **CLOSE)


def test_the_layout_makes_no_difference() -> None:
    divergence, theirs, own = made(VID(layers=1, positions=None), (5, 8, 6), (2, 8, 6))
    grid = Grid((2, 3), (1, 0))
    for feature in (theirs, own):
        other = feature.contiguous(memory_format=torch.channels_last)
        assert torch.equal(grid.of(other), grid.of(feature))
        other.requires_grad_()
        (gradient,) = torch.autograd.grad(grid.of(other).square().sum(), other)
        assert gradient.is_contiguous(memory_format=torch.channels_last)
    last = [Delta(x.contiguous(memory_format=torch.channels_last)) for x in (theirs, own)]
    torch.testing.assert_close(divergence(*last), divergence(Delta(theirs), Delta(own)), **CLOSE)


def test_evaluation_looks_at_all_positions() -> None:
    divergence, theirs, own = made(VID(layers=1, positions=4), (5, 8, 8), (2, 8, 8))
    whole = made(VID(layers=1, positions=None), (5, 8, 8), (2, 8, 8))[0]
    assert not torch.equal(divergence(Delta(theirs), Delta(own)), whole(Delta(theirs), Delta(own)))
    torch.testing.assert_close(divergence.eval()(Delta(theirs), Delta(own)), whole(Delta(theirs), Delta(own)), **CLOSE)


# --------------------------------------------------------------------------------------------------------- information


def test_moments_are_those_of_all_that_was_seen() -> None:
    moments = Moments(3).double()
    batches = [5.0 + 3.0 * normal(((4, 3),), seed, 2 + seed)[0] for seed in range(4)]
    for batch in batches:
        moments(batch)
    seen = torch.cat([batch.flatten(0, 1) for batch in batches])
    torch.testing.assert_close(moments.mean, seen.mean(0), **CLOSE)
    torch.testing.assert_close(moments.variance, seen.var(0, correction=0), **CLOSE)
    moments.eval()
    expected = -Normal(moments.mean, moments.variance.sqrt()).log_prob(batches[0]).sum(2).mean()
    torch.testing.assert_close(moments(batches[0]), expected, **CLOSE)
    torch.testing.assert_close(moments.mean, seen.mean(0), **CLOSE)


def test_moments_count_on_in_half_precision() -> None:
    moments = Moments(1).to(torch.bfloat16)
    for value in [0.0] * 300 + [1.0] * 300:
        moments(torch.full((1, 1, 1), value))
    assert moments.rows == 600
    torch.testing.assert_close(moments.mean, torch.tensor([0.5]))
    assert moments.to("meta").mean.device.type == "meta"


def linear_gaussian(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """t = 2 s + noise of deviation 0.5, and other factors; each channel apart."""
    own = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    return own * torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64) + 0.5 * noise, own


def test_information_of_a_linear_gaussian_pair() -> None:
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
