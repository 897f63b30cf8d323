"""KL estimated by draws: unbiased, reproducible, and its refusals."""

import pytest
import torch
from torch import distributions as D

from limbeck.core.delta import Delta
from limbeck.core.divergence import kl, kl_monte_carlo
from limbeck.errors import DivergenceError, ReparameterizationError
from tests.core.divergence.families import FAMILIES, SHAPE, mvn, normal


@pytest.mark.parametrize("name", ["Normal", "StudentT", "Bernoulli", "MultivariateNormal", "Categorical", "Gamma"])
def test_kl_monte_carlo_is_unbiased(name):
    if name == "StudentT":
        p, q = D.StudentT(torch.full(SHAPE, 6.0).double()), D.Normal(torch.zeros(SHAPE).double(), 1.3)
        x = torch.linspace(-300, 300, 200_001).double().unsqueeze(-1)
        one_p, one_q = D.StudentT(torch.tensor([6.0]).double()), D.Normal(torch.zeros(1).double(), 1.3)
        exact = torch.trapezoid(one_p.log_prob(x).exp() * (one_p.log_prob(x) - one_q.log_prob(x)), x, dim=0)
        exact = (exact * 3).expand(4)
    else:
        p, q = FAMILIES[name](0), FAMILIES[name](1)
        exact = kl(p, q)
    torch.manual_seed(0)
    draws = torch.stack([kl_monte_carlo(p, q) for _ in range(400)])
    error = (draws.mean(0) - exact) / (draws.std(0) / 20)
    assert error.abs().max() < 4
    mean = kl_monte_carlo(p, q, samples=400)
    assert ((mean - exact) / (draws.std(0) / 20)).abs().max() < 4
    assert kl_monte_carlo(p, q, samples=2, normalize=True).shape == (4,)


def test_kl_monte_carlo_is_reproducible_and_has_the_student_gradient():
    p, q = normal(0), normal(1)
    loc = q.loc.clone().requires_grad_()
    estimate = lambda seed: kl_monte_carlo(  # noqa: E731
        p, D.Normal(loc, q.scale), samples=3, generator=torch.Generator().manual_seed(seed)
    )
    assert torch.equal(estimate(0), estimate(0))
    assert not torch.equal(estimate(0), estimate(1))
    estimate(0).sum().backward()
    assert loc.grad.abs().sum() > 0


def test_a_teacher_that_torch_alone_reparameterises_has_a_gradient():
    """KL(Gamma(a) || Gamma(b)) = (a - b) digamma(a) - log gamma(a) + log gamma(b) has the slope (a - b) trigamma(a)."""
    a = torch.full((20_000, 1), 3.0, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    one = torch.ones_like(a).detach()
    (found,) = torch.autograd.grad(kl_monte_carlo(D.Gamma(a, one), D.Gamma(2.0 * one, one)).mean(), a)
    exact = torch.polygamma(1, a.detach()[0]).item()
    assert found.sum().item() == pytest.approx(exact, rel=0.05)


def test_kl_monte_carlo_normalizes_by_the_value():
    p, q = mvn(0), mvn(1)
    g = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    torch.testing.assert_close(
        kl_monte_carlo(p, q, generator=g(), normalize=True), kl_monte_carlo(p, q, generator=g()) / 3
    )


def test_kl_monte_carlo_names_what_it_cannot_compare():
    with pytest.raises(DivergenceError, match="at least one sample"):
        kl_monte_carlo(normal(0), normal(1), samples=0)
    with pytest.raises(DivergenceError, match="support"):
        kl_monte_carlo(normal(0), FAMILIES["Exponential"](0))
    for sides in ((Delta(torch.zeros(4, 3)), normal(1)), (normal(1), Delta(torch.zeros(4, 3)))):
        with pytest.raises(DivergenceError, match="point mass"):
            kl_monte_carlo(*sides)
    gamma = FAMILIES["Gamma"](0)
    with pytest.raises(ReparameterizationError, match="Gamma"):
        kl_monte_carlo(gamma, gamma, generator=torch.Generator())


def test_kl_monte_carlo_tells_supports_apart_without_validation(monkeypatch):
    """As it is in any process that has imported zuko."""
    monkeypatch.setattr(D.Distribution, "_validate_args", False)
    with pytest.raises(DivergenceError, match="support"):
        kl_monte_carlo(normal(0), FAMILIES["Exponential"](0))
    assert torch.isfinite(kl_monte_carlo(FAMILIES["Exponential"](0), normal(0))).all()
