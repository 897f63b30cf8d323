"""Closed forms of KL where torch's own round badly or meet zero times infinity."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Geometric,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    Poisson,
)
from torch.nn import functional as F

from limbeck.core.divergence import kl, wasserstein2

MASKED = torch.tensor([-torch.inf, torch.inf])
PRECISIONS = (torch.float32, torch.float64)
HALF = torch.tensor([[300.0]], dtype=torch.float16)


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


@pytest.mark.parametrize("rate", [1.0, 100.0, 1e4])
def test_poisson_kl_of_almost_equal_laws_does_not_cancel(rate: float) -> None:
    one, other = torch.tensor([rate]), torch.tensor([1.0001 * rate])
    wanted = 0.5 * 1e-8 * rate  # to second order in the difference
    assert kl(Poisson(one), Poisson(other)).item() == pytest.approx(wanted, rel=2e-2)
    assert kl(Poisson(one), Poisson(one)).item() == 0.0


@pytest.mark.parametrize(("one", "other"), [(1e5, 1e-3), (1e-3, 1e5), (1.0, 1.5), (1.0, 0.5), (1e-35, 2.0)])
def test_poisson_kl_of_other_laws_is_that_of_double_precision(one: float, other: float) -> None:
    single, double = ([torch.tensor([rate], dtype=dtype) for rate in (one, other)] for dtype in PRECISIONS)
    single[1].requires_grad_()
    found = kl(*map(Poisson, single))
    assert found.item() == pytest.approx(torch.distributions.kl_divergence(*map(Poisson, double)).item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(found.sum(), single[1])
    assert gradient.item() == pytest.approx(1.0 - one / other, rel=1e-5)


def half_bit(logit: float) -> Bernoulli:
    return Bernoulli(logits=torch.tensor([[logit]]).half(), validate_args=False)


def half_vector(loc: Tensor) -> MultivariateNormal:
    return MultivariateNormal(loc, scale_tril=torch.ones_like(loc)[..., None], validate_args=False)


IN_HALF: dict[str, tuple[Callable[..., Tensor], Distribution, Distribution, float]] = {
    "w2": (wasserstein2, Normal(HALF, 1.0), Normal(-HALF, 1.0), 600.0**2),
    "kl": (kl, Normal(HALF, 1.0), Normal(-HALF, 1.0), 0.5 * 600.0**2),
    "vectors": (wasserstein2, half_vector(HALF), half_vector(-HALF), 600.0**2),
    "counts": (kl, Poisson(HALF), Poisson(3.0 * HALF), 600.0 - 300.0 * math.log(3.0)),
    "bits": (kl, half_bit(0.0), half_bit(-torch.inf), torch.inf),
}


@pytest.mark.parametrize(("divergence", "p", "q", "wanted"), IN_HALF.values(), ids=IN_HALF)
def test_half_precision_is_compared_in_single(
    divergence: Callable[..., Tensor], p: Distribution, q: Distribution, wanted: float
) -> None:
    """Its squares overflow above 255, and its largest number is no sign of an infinite one."""
    assert divergence(p, q).item() == pytest.approx(wanted)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize(
    "precisions", [(HALF.dtype, HALF.dtype), (HALF.dtype, torch.float32), (torch.float32, HALF.dtype)]
)
@pytest.mark.parametrize("family", [Categorical, OneHotCategorical, Bernoulli])
def test_logits_in_half_precision_are_compared_as_the_numbers_that_they_are(
    family: type[Distribution], precisions: tuple[torch.dtype, torch.dtype], temperature: float
) -> None:
    logits = torch.tensor([[0.3, -1.2, 2.7]]), torch.tensor([[1.1, 0.4, -0.8]])
    laws = [family(logits=side.to(dtype), validate_args=False) for side, dtype in zip(logits, precisions, strict=True)]
    wanted = kl(*(family(logits=law.logits.double()) for law in laws), temperature=temperature)
    assert kl(*laws, temperature=temperature).item() == pytest.approx(wanted.item(), rel=1e-5)
