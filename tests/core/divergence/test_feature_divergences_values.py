"""Each divergence between features against its paper's formula, written out in another way."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical
from torch.nn import functional as F

from limbeck.core.delta import Delta
from limbeck.divergence import (
    CRD,
    LwF,
    Regressor,
    attention,
    decoupled_kl,
    kl,
    logit_error,
    selectivity,
    solution_flow,
    standardized_kl,
)
from tests.features import CASES, labelled, labels, layers, normal

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def pair(*shapes: tuple[int, ...], batch: int = 3) -> list[Tensor]:
    return normal(shapes, 1, batch)


@pytest.mark.parametrize("normalize", [True, False])
def test_attention(normalize: bool) -> None:
    theirs, own = pair((5, 4, 3), (2, 4, 3))
    for row in range(3):
        maps = [torch.stack([a.norm() ** 2 for a in value[row].flatten(1).T]) for value in (theirs, own)]
        first, second = (found / (found**2).sum().sqrt() for found in maps)
        expected = ((first - second) ** 2).sum() / (12 if normalize else 1)
        found = attention(Delta(theirs), Delta(own), normalize=normalize)[row]
        torch.testing.assert_close(found, expected, **CLOSE)


def test_attention_of_unequal_maps_averages_the_larger() -> None:
    theirs, own = pair((5, 4, 4), (2, 2, 2))
    energy = theirs.square().sum(1)
    blocks = torch.stack([energy[:, i : i + 2, j : j + 2].mean((1, 2)) for i in (0, 2) for j in (0, 2)], 1)
    other = own.square().sum(1).flatten(1)
    unit = [value / value.norm(dim=1, keepdim=True) for value in (blocks, other)]
    torch.testing.assert_close(attention(Delta(theirs), Delta(own)), (unit[0] - unit[1]).square().mean(1), **CLOSE)


@pytest.mark.parametrize("shapes", [((5, 4, 3), (2, 4, 3)), ((7, 2, 2), (6, 2, 2)), ((4, 30), (9, 30))])
def test_selectivity(shapes: tuple[tuple[int, ...], ...]) -> None:
    theirs, own = pair(*shapes)

    def kernels(a: Tensor, b: Tensor) -> Tensor:
        patterns = [[channel.flatten() / channel.norm() for channel in value] for value in (a, b)]
        pairs = [(x @ y) ** 2 for x in patterns[0] for y in patterns[1]]
        return torch.stack(pairs).sum() / len(pairs)

    expected = [kernels(a, a) + kernels(b, b) - 2 * kernels(a, b) for a, b in zip(theirs, own, strict=True)]
    torch.testing.assert_close(selectivity(Delta(theirs), Delta(own)), torch.stack(expected), **CLOSE)


@pytest.mark.parametrize("normalize", [True, False])
def test_solution_flow(normalize: bool) -> None:
    shapes = ((2, 4, 4), (3, 2, 2))
    theirs, own = normal(shapes, 1, 3), normal(shapes, 2, 3)

    def gram(first: Tensor, second: Tensor) -> Tensor:
        pooled = F.max_pool2d(first, 2)
        return torch.einsum("mhw,nhw->mn", pooled, second) / 4

    expected = torch.stack([
        (gram(theirs[0][row], theirs[1][row]) - gram(own[0][row], own[1][row])).square().sum() for row in range(3)
    ])  # fmt: skip
    found = solution_flow(layers(theirs), layers(own), normalize=normalize)
    torch.testing.assert_close(found, expected / (6 if normalize else 1), **CLOSE)


@pytest.mark.parametrize("normalize", [True, False])
def test_logit_error(normalize: bool) -> None:
    theirs, own = pair((4,), (4,))
    expected = torch.tensor([sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / 2 for x, y in zip(theirs, own)])
    found = logit_error(Delta(theirs), Delta(own), normalize=normalize)
    torch.testing.assert_close(found, expected.double() / (4 if normalize else 1), **CLOSE)


def softmax(logits: Tensor) -> Tensor:
    return logits.exp() / logits.exp().sum(1, keepdim=True)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_standardized_kl(temperature: float) -> None:
    theirs, own = (3.0 * value + 7.0 for value in pair((400,), (400,)))

    def standardized(logits: Tensor) -> Tensor:
        centred = logits - logits.mean(1, keepdim=True)
        return centred / centred.square().mean(1, keepdim=True).sqrt()

    p, q = (softmax(standardized(value) / temperature) for value in (theirs, own))
    expected = temperature**2 * (p * (p / q).log()).sum(1)
    found = standardized_kl(temperature)(Categorical(logits=theirs), Categorical(logits=own))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)  # the layer norm's epsilon


def test_standardized_kl_knows_no_scale() -> None:
    theirs, own = pair((5,), (5,))
    divergence = standardized_kl(2.0)
    scaled = divergence(Delta(10.0 * theirs + 3.0), Delta(own))
    torch.testing.assert_close(scaled, divergence(Delta(theirs), Delta(own)), rtol=1e-4, atol=1e-6)
    equal = torch.zeros(3, 5, dtype=torch.float64, requires_grad=True)
    rows = divergence(Delta(theirs), Delta(equal))
    assert torch.autograd.grad(rows.sum(), equal)[0].isfinite().all()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_decoupled_kl(temperature: float) -> None:
    theirs, own = pair((4,), (4,))
    p, q = softmax(theirs / temperature), softmax(own / temperature)
    expected = []
    for row, label in enumerate(labels(3, 4).tolist()):
        a, b = p[row], q[row]
        others = [index for index in range(4) if index != label]
        target = a[label] * (a[label] / b[label]).log() + (1 - a[label]) * ((1 - a[label]) / (1 - b[label])).log()
        inner = [a[others] / a[others].sum(), b[others] / b[others].sum()]
        expected.append(temperature**2 * (0.5 * target + 3.0 * (inner[0] * (inner[0] / inner[1]).log()).sum()))
    divergence = decoupled_kl(temperature, alpha=0.5, beta=3.0)
    found = divergence(labelled([theirs]), Categorical(logits=own))
    torch.testing.assert_close(found, torch.stack(expected), **CLOSE)


def test_decoupled_parts_add_up_to_the_kl() -> None:
    """KL = target's part + the teacher's probability of the others times their part."""
    theirs, own = pair((4,), (4,))
    p, q = Categorical(logits=theirs), Categorical(logits=own)
    target, others = (decoupled_kl(1.0, *weights)(labelled([theirs]), q) for weights in ((1.0, 0.0), (0.0, 1.0)))
    rest = 1.0 - p.probs.gather(1, labels(3, 4)[:, None])[:, 0]
    torch.testing.assert_close(target + rest * others, kl(p, q), **CLOSE)


@pytest.mark.parametrize("loss", ["squared", "cross-entropy"])
def test_lwf(loss: str) -> None:
    divergence = CASES["lwf"].sized() if loss == "cross-entropy" else CASES["lwf, squared"].sized()
    assert isinstance(divergence, LwF)
    theirs, own = pair((4,), (6,))
    predicted = own @ divergence.head.weight.T + divergence.head.bias
    if loss == "squared":
        expected = ((theirs - predicted) ** 2).sum(1) / 2 / 4
    else:
        expected = -(softmax(theirs / 2.0) * softmax(predicted / 2.0).log()).sum(1)
    torch.testing.assert_close(divergence(Delta(theirs), Delta(own)), expected, **CLOSE)
    if loss == "cross-entropy":
        torch.testing.assert_close(divergence(Categorical(logits=theirs), Delta(own)), expected, **CLOSE)


def test_fitnet_is_the_mean_squared_error_of_a_1x1_convolution() -> None:
    divergence = CASES["fitnet"].sized()
    assert isinstance(divergence, Regressor)
    theirs, own = pair((5, 4, 4), (3, 4, 4))
    same = torch.cat([own, torch.zeros(3, 2, 4, 4, dtype=torch.float64)], 1)
    torch.testing.assert_close(divergence(Delta(theirs), Delta(own)), (theirs - same).square().mean((1, 2, 3)), **CLOSE)
    layer = divergence.network.pointwise[0]
    with torch.no_grad():
        layer.weight.copy_(normal(((5, 3, 1, 1),), 8, 1)[0][0])
    mapped = F.conv2d(own, layer.weight, layer.bias)
    expected = (theirs - mapped).square().mean((1, 2, 3))
    torch.testing.assert_close(divergence(Delta(theirs), Delta(own)), expected, **CLOSE)


# --------------------------------------------------------------------------------------------------------- contrast


def critic(divergence: CRD, constant: float, anchor: Tensor, other: Tensor) -> Tensor:
    score = (anchor @ other / divergence.temperature).exp()
    return score / (score + constant)


def embedded(divergence: CRD, theirs: Tensor, own: Tensor) -> list[Tensor]:
    return [F.normalize(layer(x), dim=1) for layer, x in ((divergence.teacher, theirs), (divergence.student, own))]


def test_contrast_with_the_papers_critic() -> None:
    torch.manual_seed(0)
    theirs, own = pair((7,), (3,))
    rows = 50  # M of the paper, of which N = 11 are negatives
    divergence = CRD(embedding=5, negatives=11, temperature=0.2, constant=11 / rows).fitted(Delta(theirs), Delta(own))
    taught, learned = embedded(divergence, theirs, own)
    memories = divergence.learned.clone(), divergence.taught.clone()
    found = divergence(Delta(theirs), Delta(own))
    for row in range(3):
        expected = torch.zeros((), dtype=torch.float64)
        for anchor, partner, memory in ((taught, learned, memories[0]), (learned, taught, memories[1])):
            expected = expected - critic(divergence, 11 / rows, anchor[row], partner[row]).log()
            for negative in memory:
                expected = expected - (1 - critic(divergence, 11 / rows, anchor[row], negative)).log()
        torch.testing.assert_close(found[row], expected, **CLOSE)


def test_the_critics_constant_is_that_of_the_first_batch() -> None:
    torch.manual_seed(0)
    theirs, own = pair((7,), (3,))
    divergence = CRD(embedding=5, negatives=11).fitted(Delta(theirs), Delta(own))
    taught, learned = embedded(divergence, theirs, own)
    expected = [
        11 * (anchor @ memory.T / 0.07).exp().mean()
        for anchor, memory in ((taught, divergence.learned), (learned, divergence.taught))
    ]
    divergence(Delta(theirs), Delta(own))
    torch.testing.assert_close(divergence.log_constants.exp(), torch.stack(expected), **CLOSE)
    known = divergence.log_constants.clone()
    divergence(Delta(own @ torch.ones(3, 7, dtype=torch.float64)), Delta(own))
    assert torch.equal(divergence.log_constants, known)


def test_the_memory_is_first_in_first_out() -> None:
    torch.manual_seed(0)
    batches = [normal(((7,), (3,)), seed, 4) for seed in range(4)]
    divergence = CRD(embedding=5, negatives=10).fitted(*map(Delta, batches[0]))
    start = divergence.taught.clone()
    entered = []
    for theirs, own in batches:
        entered.append(embedded(divergence, theirs, own)[0])
        divergence(Delta(theirs), Delta(own))
    seen = torch.cat(entered)  # 16 rows, at places 0, ..., 9, 0, ..., 5
    torch.testing.assert_close(divergence.taught, torch.cat([seen[10:], seen[6:10]]))
    assert int(divergence.place) == 6
    divergence.eval()(*map(Delta, batches[0]))
    assert int(divergence.place) == 6
    assert not torch.equal(divergence.taught, start)


def test_a_batch_larger_than_the_memory() -> None:
    theirs, own = pair((7,), (3,), batch=8)
    torch.manual_seed(0)
    divergence = CRD(embedding=5, negatives=3).fitted(Delta(theirs), Delta(own))
    divergence(Delta(theirs), Delta(own)).sum().backward()
    last = embedded(divergence, theirs, own)[1][-3:]
    torch.testing.assert_close(divergence.learned, last)


def test_contrast_learns_which_rows_belong_together() -> None:
    """A student whose features are a rotation of the teacher's: the bound on the information approaches log N."""
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(8, 8)).Q
    divergence = CRD(embedding=8, negatives=64, temperature=0.1).fitted(
        Delta(torch.randn(4, 8)), Delta(torch.randn(4, 8))
    )
    optimizer = torch.optim.Adam(divergence.parameters(), 0.01)
    costs = []
    for _ in range(200):
        theirs = torch.randn(32, 8)
        loss = divergence(Delta(theirs), Delta(theirs @ turn)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        costs.append(loss.item())
    assert sum(costs[-20:]) < 0.5 * sum(costs[:20])
    taught, learned = embedded(divergence, theirs, theirs @ turn)
    assert ((taught @ learned.T).argmax(1) == torch.arange(32)).float().mean() > 0.9
    assert math.isfinite(costs[-1])
