"""Divergences of logits against their papers' formulas, written out in another way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical

from limbeck.core.delta import Delta
from limbeck.divergence import (
    decoupled_kl,
    kl,
    logit_error,
    standardized_kl,
)
from tests.core.divergence.observed_features import CLOSE, pair, softmax
from tests.features import labelled, labels


@pytest.mark.parametrize("normalize", [True, False])
def test_logit_error_is_its_formula(normalize: bool) -> None:
    theirs, own = pair((4,), (4,))
    expected = torch.tensor([sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / 2 for x, y in zip(theirs, own)])
    found = logit_error(Delta(theirs), Delta(own), normalize=normalize)
    torch.testing.assert_close(found, expected.double() / (4 if normalize else 1), **CLOSE)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_standardized_kl_is_its_formula(temperature: float) -> None:
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
def test_decoupled_kl_is_its_formula(temperature: float) -> None:
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


@pytest.mark.parametrize("classes", [2, 4])
def test_decoupled_parts_add_up_to_the_kl(classes: int) -> None:
    """KL = target's part + the teacher's probability of the others times their part."""
    theirs, own = pair((classes,), (classes,))
    p, q = Categorical(logits=theirs), Categorical(logits=own)
    target, others = (decoupled_kl(1.0, *weights)(labelled([theirs]), q) for weights in ((1.0, 0.0), (0.0, 1.0)))
    rest = 1.0 - p.probs.gather(1, labels(3, classes)[:, None])[:, 0]
    torch.testing.assert_close(target + rest * others, kl(p, q), **CLOSE)
