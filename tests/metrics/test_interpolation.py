"""Norm-preserving and spherical interpolation, against their equations written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limbeck.metrics import interpolate_latents, spherical_interpolation


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_equation_16_row_by_row() -> None:
    u, v = draws(7, 2, 3, 3), draws(7, 2, 3, 3, seed=1)
    alpha = torch.linspace(0, 1, 7, dtype=torch.float64)
    found = interpolate_latents(u, v, alpha)
    for row, share in enumerate(alpha.tolist()):
        straight = (1 - share) * u[row] + share * v[row]
        norm = (1 - share) * u[row].norm() + share * v[row].norm()
        torch.testing.assert_close(found[row], straight * norm / straight.norm(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[0], u[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(found[-1], v[-1], rtol=1e-12, atol=0)


def test_norms_are_kept_where_a_straight_line_loses_them() -> None:
    u, v = draws(50, 400), draws(50, 400, seed=1)
    assert (0.5 * (u + v)).norm(dim=1).mean() < 15.0  # sqrt(400 / 2), against the 20 of any draw
    middle = interpolate_latents(u, v, 0.5).norm(dim=1)
    torch.testing.assert_close(middle, 0.5 * (u.norm(dim=1) + v.norm(dim=1)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_latents_that_cancel_give_the_origin(dtype: torch.dtype) -> None:
    u = draws(3, 5).to(dtype)
    assert torch.equal(interpolate_latents(u, -u, 0.5), torch.zeros_like(u))
    # Opposite but for rounding: no direction either.
    third = 1.0 / 3.0
    almost = interpolate_latents(u, -2 * u, third)
    assert bool(almost.isfinite().all())
    assert torch.equal(almost, torch.zeros_like(u)) or torch.allclose(almost, torch.zeros_like(u), atol=1e-5)
    both = torch.zeros(2, 5, dtype=dtype)
    assert torch.equal(interpolate_latents(both, both, 0.3), both)


def test_gradients_are_finite_even_at_the_origin() -> None:
    u = draws(2, 4).requires_grad_()
    interpolate_latents(u, -u.detach(), 0.5).sum().backward()
    assert u.grad is not None
    assert bool(u.grad.isfinite().all())


def test_a_quarter_circle_by_hand() -> None:
    u, v = torch.tensor([[2.0, 0.0]] * 3, dtype=torch.float64), torch.tensor([[0.0, 2.0]] * 3, dtype=torch.float64)
    found = spherical_interpolation(u, v, torch.tensor([0.0, 1 / 3, 1.0]))
    # The straight line of Eq. 16 has the same norm but another speed: its first third is at 26.6 degrees, not at 30.
    expected = torch.tensor([[2.0, 0.0], [3.0**0.5, 1.0], [0.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-12)


def test_the_arc_is_that_of_the_equation() -> None:
    u, v = draws(7, 2, 3, 3), draws(7, 2, 3, 3, seed=1)
    alpha = torch.linspace(0, 1, 7, dtype=torch.float64)
    found = spherical_interpolation(u, v, alpha)
    for row, share in enumerate(alpha):
        angle = torch.acos((u[row] * v[row]).sum() / (u[row].norm() * v[row].norm()))
        weights = torch.sin((1 - share) * angle), torch.sin(share * angle)
        expected = (weights[0] * u[row] + weights[1] * v[row]) / torch.sin(angle)
        torch.testing.assert_close(found[row], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ends_on_one_line_are_joined_by_it(dtype: torch.dtype) -> None:
    u = draws(3, 2, 5).to(dtype)
    for v in (u, 3 * u, -u, -2 * u, 0 * u):
        torch.testing.assert_close(spherical_interpolation(u, v, 0.0), u)
        torch.testing.assert_close(spherical_interpolation(u, v, 1.0), v)
        if bool(v.any()):
            torch.testing.assert_close(spherical_interpolation(u, v, 0.25), 0.75 * u + 0.25 * v)
    assert not bool(spherical_interpolation(0 * u, 0 * u, 0.3).any())
