"""The point mass behaves as a torch distribution."""

import pytest
import torch
from torch import distributions as D

from limbeck.core.delta import Delta


def test_shapes_and_moments():
    value = torch.randn(4, 3, 2, dtype=torch.float64)
    delta = Delta(value, event_dim=2)
    assert isinstance(delta, D.Distribution)
    assert delta.batch_shape == (4,)
    assert delta.event_shape == (3, 2)
    assert delta.mean is value
    assert delta.mode is value
    assert torch.equal(delta.variance, torch.zeros_like(value))
    assert "event_dim=2" in repr(delta)


@pytest.mark.parametrize("event_dim", [0, 1, 2])
def test_log_prob_is_zero_at_the_atom_and_minus_infinity_elsewhere(event_dim):
    value = torch.randn(4, 3, dtype=torch.float64)
    delta = Delta(value, event_dim)
    log_prob = delta.log_prob(value)
    assert log_prob.shape == delta.batch_shape
    assert log_prob.dtype == torch.float64
    assert (log_prob == 0).all()
    other = value.clone()
    other[1, 2] += 1e-12
    at_other = delta.log_prob(other)
    expected = torch.zeros(4, 3, dtype=torch.float64)
    expected[1, 2] = -torch.inf
    assert torch.equal(at_other, expected.flatten(2 - event_dim).sum(-1) if event_dim else expected)


def test_rsample_carries_the_gradient_and_sample_does_not():
    value = torch.randn(4, 3, requires_grad=True)
    delta = Delta(value)
    assert delta.rsample() is value
    assert not delta.sample().requires_grad
    drawn = delta.rsample(torch.Size([5]))
    assert drawn.shape == (5, 4, 3)
    drawn.sum().backward()
    assert torch.equal(value.grad, torch.full((4, 3), 5.0))
    assert delta.sample((2, 5)).shape == (2, 5, 4, 3)


def test_expand_and_support():
    delta = Delta(torch.randn(1, 3), event_dim=1)
    wide = delta.expand((6,))
    assert isinstance(wide, Delta)
    assert (wide.batch_shape, wide.event_shape) == ((6,), (3,))
    assert wide.support.event_dim == 1
    assert wide.support.check(wide.value).shape == (6,)
    assert not Delta(torch.zeros(2)).support.is_discrete


def test_integer_values_have_a_floating_log_prob():
    delta = Delta(torch.tensor([1, 2]))
    assert torch.equal(delta.log_prob(torch.tensor([1, 3])), torch.tensor([0.0, -torch.inf]))


@pytest.mark.parametrize("event_dim", [-1, 3])
def test_an_impossible_event_dim_is_refused(event_dim):
    with pytest.raises(ValueError, match="event_dim"):
        Delta(torch.zeros(4, 3), event_dim)
