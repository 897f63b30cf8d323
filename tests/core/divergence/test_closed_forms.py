"""Closed forms of KL where torch's own round badly or meet zero times infinity."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Geometric, Poisson
from torch.nn import functional as F

from limbeck.core.divergence import kl

MASKED = torch.tensor([-torch.inf, torch.inf])


def geometric_by_hand(a: Tensor, b: Tensor) -> Tensor:
    """The sum over all counts, in double precision, for logits a and b."""
    a, b = a.double(), b.double()
    failures = torch.exp(-a)  # the mean number of failures
    return F.logsigmoid(a) - F.logsigmoid(b) + failures * (F.logsigmoid(-a) - F.logsigmoid(-b))


def test_geometric_kl_is_that_of_double_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (4.0 * torch.randn(2, 2000, generator=generator)).unbind()
    wanted = geometric_by_hand(a, b)
    found = kl(Geometric(logits=a), Geometric(logits=b)).double()
    assert ((found - wanted).abs() <= 1e-3 * wanted + 1e-5).all()


def test_geometric_kl_of_almost_equal_laws_is_not_negative() -> None:
    a = torch.linspace(-12.0, 12.0, 500)
    b = a + 1e-3
    found = kl(Geometric(logits=a), Geometric(logits=b))
    wanted = 0.5 * 1e-6 * (1.0 - a.double().sigmoid())  # to second order in the difference
    assert (found > -1e-9).all()
    assert (found.double() - wanted).abs().max() < 2e-8
    assert (kl(Geometric(logits=a), Geometric(logits=a)) == 0.0).all()


@pytest.mark.parametrize("logit", [-20.0, 60.0, 90.0])
def test_geometric_kl_and_its_gradient_are_finite_at_the_ends(logit: float) -> None:
    b = torch.tensor([logit], requires_grad=True)
    loss = kl(Geometric(logits=torch.tensor([-5.0])), Geometric(logits=b)).sum()
    loss.backward()
    assert loss.isfinite()
    assert b.grad is not None
    assert b.grad.isfinite().all()


def test_a_teacher_that_counts_nothing_has_the_students_rate_as_kl() -> None:
    rate = torch.tensor([1.5], requires_grad=True)
    loss = kl(Poisson(torch.zeros(1)), Poisson(rate)).sum()
    loss.backward()
    assert loss.item() == pytest.approx(1.5)
    assert rate.grad is not None
    assert rate.grad.item() == pytest.approx(1.0)


def test_bits_that_both_mask_have_no_divergence() -> None:
    logits = MASKED.clone().requires_grad_()
    loss = kl(Bernoulli(logits=MASKED, validate_args=False), Bernoulli(logits=logits, validate_args=False))
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0]
    assert logits.grad is not None
    assert logits.grad.tolist() == [0.0, 0.0]


def test_a_bit_that_the_student_alone_masks_has_an_infinite_divergence() -> None:
    teacher = Bernoulli(probs=torch.full((2,), 0.3))
    assert kl(teacher, Bernoulli(logits=MASKED, validate_args=False)).tolist() == [torch.inf, torch.inf]
